"""Early stopping on held-out data, which trains on what is left, beside criteria that train on everything."""

import pandas as pd

from lib.criteria import END, LABELS, ORACLE, stops
from lib.study.statistics import over_seeds
from lib.study.studies import SETTING_OF_A_RUN, Study

HELD_OUT = {"validation_accuracy_noisy": "noisy labels", "validation_accuracy_clean": "clean labels"}
_BESIDE = ("cnd", "prediction_changes", "known_polluted_accuracy", "consensus", END, ORACLE)


def table(study: Study) -> pd.DataFrame:
    """Test accuracy of validation baselines and, on the same noises and seeds, of criteria that hold nothing out.

    Args:
        study: with variants of validation_share.

    Returns:
        The table of `lib.study.statistics.over_seeds` by held_out (share; 0 where nothing is), criterion, noise and
        noise_rate, of test_accuracy (%) and gap (points below the oracle of the run that trains on everything). Empty
        where the study has no such variants.
    """
    held_out = [variant for variant in study.variants if set(variant.changed) == {"validation_share"}]
    if not held_out or study.runs["validation_share"].iloc[0] != 0:
        return pd.DataFrame()
    parts = [stops(variant.runs).assign(held_out=variant.changed["validation_share"]) for variant in held_out]
    compared = pd.concat(parts).loc[lambda rows: rows["criterion"].isin([*HELD_OUT, ORACLE])]
    own = stops(study.runs).assign(held_out=0.0).merge(compared[SETTING_OF_A_RUN].drop_duplicates())
    best = own.loc[own["criterion"] == ORACLE, [*SETTING_OF_A_RUN, "oracle_accuracy"]]
    shown = pd.concat([own[own["criterion"].isin(_BESIDE)], compared]).drop(columns="oracle_accuracy")
    shown = shown.merge(best, on=SETTING_OF_A_RUN, how="left")
    shown["gap"] = 100 * (shown["oracle_accuracy"] - shown["test_accuracy"])
    shown["test_accuracy"] *= 100
    return over_seeds(shown, ["held_out", "criterion", "noise", "noise_rate"], ("test_accuracy", "gap"))


def name_of(criterion: str, held_out: float) -> str:
    """How tables and figures call a row of `table`."""
    if criterion in HELD_OUT:
        return f"{100 * held_out:g}% held out, {HELD_OUT[criterion]}"
    return f"{LABELS[criterion]}, {100 * held_out:g}% held out" if held_out else LABELS[criterion]
