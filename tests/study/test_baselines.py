import pytest

from lib.criteria import stops
from lib.runs import table as runs
from lib.study import baselines
from lib.study.studies import studies


@pytest.fixture(scope="module")
def study(study_folder):
    (study,) = studies(runs.load(study_folder))
    return study


def test_baselines_are_compared_with_the_run_that_trains_on_everything(study):
    table = baselines.table(study).set_index(["held_out", "criterion"])
    own = stops(study.runs).query("noise_rate == 0.4")
    (held_out,) = [variant.runs for variant in study.variants if "validation_share" in variant.changed]
    noisy = stops(held_out).query("criterion == 'validation_accuracy_noisy'").sort_values("seed")
    best = own.query("criterion == 'oracle'").sort_values("seed")["test_accuracy"].to_numpy()
    row = table.loc[(0.1, "validation_accuracy_noisy")]
    assert row["test_accuracy_mean"] == pytest.approx(100 * noisy["test_accuracy"].mean())
    assert row["gap_mean"] == pytest.approx(100 * (best - noisy["test_accuracy"].to_numpy()).mean())
    assert table.loc[(0.0, "oracle"), "gap_mean"] == 0
    assert set(table["noise_rate"]) == {0.4}  # where there are baselines
    assert set(table["runs"]) == {2}
    assert table.loc[(0.0, "cnd"), "test_accuracy_mean"] == pytest.approx(
        100 * own.query("criterion == 'cnd'")["test_accuracy"].mean()
    )


def test_without_held_out_runs_there_is_no_table(study, runs_folder):
    (other,) = studies(runs.load(runs_folder))
    assert baselines.table(other).empty


def test_names_say_what_is_held_out():
    assert baselines.name_of("validation_accuracy_clean", 0.05) == "5% held out, clean labels"
    assert baselines.name_of("oracle", 0.1) == "Oracle, 10% held out"
    assert baselines.name_of("end", 0.0) == "No stopping"
