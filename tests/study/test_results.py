import pytest
from scipy.stats import trim_mean

from lib.study.results import results


@pytest.fixture(scope="module")
def found(study_folder):
    return results(study_folder)


def test_all_runs_of_the_studies_are_pooled(found):
    table = found.over_runs()
    (result,) = found.studies
    own = result.stops.set_index("criterion")["gap"]
    assert set(table.index) == set(own.index)
    assert table.loc["cnd", "gap_iqm"] == pytest.approx(trim_mean(own["cnd"], 0.25))
    assert table.loc["cnd", "gap_iqm_low"] <= table.loc["cnd", "gap_iqm"] <= table.loc["cnd", "gap_iqm_high"]
    better = (own["prediction_changes"].to_numpy() > own["cnd"].to_numpy()).mean()
    equal = (own["prediction_changes"].to_numpy() == own["cnd"].to_numpy()).mean()
    assert table.loc["cnd", "improvement"] == pytest.approx(better + equal / 2)


def test_one_dataset_is_one_block(found):
    across = found.across()
    assert (across.blocks, across.note) == (1, "no test of a single block")
    criteria = {"consensus", *found.studies[0].study.runs["criteria"].iloc[0].split(",")}
    assert set(across.ranks) == criteria | {f"{name}:average" for name in criteria}


def test_variants_take_no_part(found):
    assert found.own_runs["run"].nunique() == 4 < found.runs["run"].nunique()
    assert found.skipped == {}
