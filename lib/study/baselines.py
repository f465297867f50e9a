"""Early stopping on held-out data, which trains on what is left, beside criteria that train on everything."""

import pandas as pd

from lib.catalogue import noise_place
from lib.criteria import CRITERIA, END, ORACLE, stops
from lib.study.statistics import intervals
from lib.study.studies import SETTING_OF_A_RUN, Study

HELD_OUT = {"validation_accuracy_noisy": "noisy labels", "validation_accuracy_clean": "clean labels"}
_BESIDE = ("cnd", "prediction_changes", "known_polluted_accuracy", END, ORACLE)


def table(study: Study) -> pd.DataFrame:
    """Test accuracy of validation baselines and, on the same noises and seeds, of criteria that hold nothing out.

    Args:
        study: with variants of validation_share.

    Returns:
        A row a noise, held-out share and criterion: noise, noise_rate, held_out (share; 0 where nothing is), criterion,
        runs, and of test_accuracy (%) and gap (points below the oracle of the run that trains on everything) mean, low
        and high over seeds. Empty where the study has no such variants.
    """
    held_out = [variant for variant in study.variants if set(variant.changed) == {"validation_share"}]
    if not held_out or study.runs["validation_share"].iloc[0] != 0:
        return pd.DataFrame()
    own = stops(study.runs)
    best = own[own["criterion"] == ORACLE].set_index(SETTING_OF_A_RUN)["test_accuracy"]
    parts = []
    for variant in held_out:
        stopped = stops(variant.runs)
        shown = stopped[stopped["criterion"].isin([*HELD_OUT, ORACLE])]
        parts.append(shown.assign(held_out=float(variant.changed["validation_share"])))
    compared = pd.concat(parts)
    seen = pd.MultiIndex.from_frame(compared[SETTING_OF_A_RUN].drop_duplicates())
    beside = own[own["criterion"].isin(_BESIDE) & pd.MultiIndex.from_frame(own[SETTING_OF_A_RUN]).isin(seen)]
    everything = pd.concat([beside.assign(held_out=0.0), compared], ignore_index=True)
    oracle = everything[SETTING_OF_A_RUN].apply(tuple, axis=1).map(best)
    everything["gap"] = 100 * (oracle - everything["test_accuracy"])
    everything["test_accuracy"] *= 100
    told = _over_seeds(everything)
    places = {"criterion": [*_BESIDE[:-1], *HELD_OUT, ORACLE].index, "noise": noise_place}
    return told.sort_values(
        ["held_out", "criterion", "noise", "noise_rate"],
        key=lambda column: column.map(places[column.name]) if column.name in places else column,
        ignore_index=True,
    )


def _over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    keys = ["noise", "noise_rate", "held_out", "criterion"]
    groups = list(rows.groupby(keys, observed=True))
    values = [group[name].dropna().to_numpy() for _, group in groups for name in ("test_accuracy", "gap")]
    ends = intervals(values).reshape(len(groups), 2, 2)
    told = []
    for i, (key, _) in enumerate(groups):
        row = dict(zip(keys, key, strict=True)) | {"runs": len(values[2 * i])}
        for place, name in enumerate(("test_accuracy", "gap")):
            sample = values[2 * i + place]
            row |= {f"{name}_mean": sample.mean() if len(sample) else float("nan")}
            row |= {f"{name}_low": ends[i, place, 0], f"{name}_high": ends[i, place, 1]}
        told.append(row)
    return pd.DataFrame(told)


def name_of(criterion: str, held_out: float) -> str:
    """How tables and figures call a row of `table`."""
    if criterion in HELD_OUT:
        return f"{100 * held_out:g}% held out, {HELD_OUT[criterion]}"
    label = {END: "No stopping", ORACLE: "Oracle"}.get(criterion) or CRITERIA[criterion].label
    return f"{label}, {100 * held_out:g}% held out" if held_out else label
