"""The shape of CND over training, by rate of noise: where it peaks, how far it falls, and how much it jitters."""

import numpy as np
import pandas as pd

from lib.stopping import smooth


def cnd_shape(runs: pd.DataFrame) -> pd.DataFrame:
    """How CND looks at each rate of symmetric noise, in bits, means over seeds.

    Args:
        runs: table of `lib.runs.load`, one study.

    Returns:
        A row a rate: noise_rate; peak, the highest smoothed value; fall, from there to the last one; jitter, the
        standard deviation of a record about its trend (of differences between records, over the root of 2); at_once,
        the share of runs whose first smoothed value is the highest, so that CND falls from its start; to_the_end, that
        of those whose last one is. Empty where there is no CND.
    """
    rows = []
    symmetric = runs[runs["noise"] == "symmetric"] if "cnd" in runs else runs[:0]
    for (rate, _), run in symmetric.groupby(["noise_rate", "seed"], observed=True):
        smoothed = smooth(run["cnd"], int(run["window"].iloc[0]))
        smoothed = smoothed[np.isfinite(smoothed)]
        if len(smoothed) < 2:
            continue
        peak, jitter = smoothed.max(), np.nanstd(np.diff(run["cnd"]), ddof=1) / np.sqrt(2)
        about = {"noise_rate": rate, "peak": peak, "fall": peak - smoothed[-1], "jitter": jitter}
        rows.append(about | {"at_once": float(smoothed[0] == peak), "to_the_end": float(smoothed[-1] == peak)})
    columns = ["noise_rate", "peak", "fall", "jitter", "at_once", "to_the_end"]
    return pd.DataFrame(rows, columns=columns).groupby("noise_rate", as_index=False).mean()
