"""Where the data of runs is from, in words."""

import pandas as pd

from lib.catalogue import NOISES, noise_title


def sources(runs: pd.DataFrame) -> str:
    """Where the data of some runs is from: every source, with the realised noise where it is not the rate asked for.

    Args:
        runs: table of `lib.runs.load`.
    """
    told = "; ".join(dict.fromkeys(runs["source"]))
    realised = runs[~runs["noise"].isin([name for name, row in NOISES.items() if row.exact])]
    rates = [
        f"{noise_title(*key)} {100 * rate:.1f}%"
        for key, rate in realised.groupby(["noise", "noise_rate"], observed=True)["realised_noise_rate"].mean().items()
    ]
    return f"{told}; realised noise: {', '.join(rates)}" if rates else told
