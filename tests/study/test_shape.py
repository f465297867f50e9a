import numpy as np
import pandas as pd
import pytest

from lib.study.shape import cnd_shape


def test_the_shape_of_cnd_by_hand():
    records = pd.DataFrame(
        {"noise": "symmetric", "noise_rate": 0.4, "seed": 0, "window": 2, "cnd": [np.nan, 1, 3, 3, 1]}
    )
    (row,) = cnd_shape(records).to_dict("records")
    assert (row["peak"], row["fall"], row["at_once"], row["to_the_end"]) == (3, 1, 0, 0)
    both = cnd_shape(pd.concat([records, records.assign(noise="none", noise_rate=0, cnd=range(5))]))
    assert both["noise"].tolist() == ["none", "symmetric"]
    assert both["to_the_end"].tolist() == [1, 0]
    assert cnd_shape(records.drop(columns="cnd")).empty
    assert cnd_shape(records.assign(cnd=np.nan)).empty
    assert row["jitter"] == pytest.approx(np.std([2, 0, -2], ddof=1) / np.sqrt(2))
