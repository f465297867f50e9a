"""The shape of CND over training, setting by setting: where it peaks, how far it falls, and how much it jitters."""

import numpy as np
import pandas as pd

from lib.stopping import smooth

_COLUMNS = ["noise", "noise_rate", "peak", "fall", "jitter", "at_once", "to_the_end"]


def cnd_shape(runs: pd.DataFrame) -> pd.DataFrame:
    """How CND looks in each setting, in bits, means over seeds.

    Args:
        runs: table of `lib.runs.load`, one study.

    Returns:
        A row a setting: noise, noise_rate; peak, the highest smoothed value; fall, from there to the last one; jitter,
        the standard deviation of a record about its trend (of differences between records, over the root of 2);
        at_once, the share of runs whose first smoothed value is the highest, so that CND falls from its start;
        to_the_end, that of those whose last one is. Empty where there is no CND.
    """
    rows = []
    for setting, run in runs.groupby(["noise", "noise_rate", "seed"], observed=True) if "cnd" in runs else ():
        smoothed = smooth(run["cnd"], int(run["window"].iloc[0]))
        smoothed = smoothed[np.isfinite(smoothed)]
        if len(smoothed) < 2:
            continue
        peak, jitter = smoothed.max(), np.nanstd(np.diff(run["cnd"]), ddof=1) / np.sqrt(2)
        shape = (peak, peak - smoothed[-1], jitter, float(smoothed[0] == peak), float(smoothed[-1] == peak))
        rows.append((*setting[:2], *shape))
    return pd.DataFrame(rows, columns=_COLUMNS).groupby(["noise", "noise_rate"], as_index=False).mean()
