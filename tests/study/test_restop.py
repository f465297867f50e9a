import numpy as np
import pytest

from lib.checks import ParameterError
from lib.cnd import aggregate
from lib.criteria import oracle
from lib.runs import load
from lib.runs.folder import DIVERGENCE
from lib.study.restop import FinishedRun, Settings, finished_runs
from tests.benchmarks.exploring import make

NEURONS, RECORDS = 9, 40


@pytest.fixture
def folder(tmp_path):
    """Four runs with divergences of the layers 2 and 4."""
    make(tmp_path, 4, RECORDS, NEURONS)
    return tmp_path


def test_the_oracle_is_the_first_of_the_best_records():
    assert oracle(np.array([np.nan, 0.2, 0.5, np.nan, 0.5])) == 3
    assert oracle(np.array([np.nan, np.nan])) is None


def test_a_stop_is_told_with_its_gap_and_what_it_takes(tmp_path):
    parameters = {"criteria": "prediction_changes", "noise": "pair", "noise_rate": 0.4, "seed": 0}
    columns = {"epoch": np.arange(1, 7.0), "test_accuracy": np.array([0.1, 0.6, 0.9, 0.7, 0.5, 0.5])}
    columns["prediction_changes"] = np.array([0.9, 0.8, 0.3, 0.2, 0.4, 0.5])
    run = FinishedRun(tmp_path, parameters, columns)
    outcome = run.stopped(Settings(criterion="prediction_changes", window=1, patience=2))
    assert (outcome.record, outcome.spent, outcome.reason) == (4, 6, "")
    assert outcome.gap == pytest.approx(20)
    other = run.stopped(Settings())
    assert (other.record, other.reason) == (None, "criterion='cnd': was not recorded")
    assert np.isnan(other.gap)


@pytest.mark.parametrize("neurons", [1, 2, 7, 300])
def test_any_quantile_is_that_of_aggregate(tmp_path, neurons):
    make(tmp_path, 1, 6, neurons)
    (run,) = finished_runs(load(tmp_path), tmp_path)
    bits = np.load(run.folder / DIVERGENCE)[:, :neurons]
    for quantile in (0.0, 0.1, 0.25, 0.5, 0.77, 0.99, 1.0):
        signal = run.signal(Settings(layer="2", quantile=quantile))
        np.testing.assert_allclose(signal, [aggregate(row, quantile) for row in bits], rtol=1e-14)


def test_values_missing_at_the_start_are_missing_at_the_start(folder):
    for file in folder.glob(f"*/{DIVERGENCE}"):
        bits = np.load(file)
        bits[:3] = np.nan
        np.save(file, bits)
    for run in finished_runs(load(folder), folder):
        outcome = run.stopped(Settings(quantile=0.5, layer="4", window=5))
        assert np.isnan(outcome.signal).nonzero()[0].tolist() == [0, 1, 2]
        assert np.isnan(outcome.smoothed).sum() == 7
        assert outcome.record > 7


@pytest.mark.parametrize(
    ("content", "reason"), [(np.zeros((3, 18)), "divergence.npy has shape (3, 18): must be (40, 18)"), (b"", "No data")]
)
def test_a_damaged_file_costs_one_run(folder, content, reason):
    damaged = next(folder.iterdir())
    if isinstance(content, bytes):
        (damaged / DIVERGENCE).write_bytes(content)
    else:
        np.save(damaged / DIVERGENCE, content)
    settings, runs = Settings(quantile=0.5, layer="4"), finished_runs(load(folder), folder)
    assert [run.folder for run in runs if not run.tells()] == [damaged]
    outcomes = {run.folder: run.stopped(settings) for run in runs}
    assert reason in outcomes.pop(damaged).reason
    assert all(outcome.record for outcome in outcomes.values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quantile": 1.5}, "quantile=1.5: must be a number in [0, 1], or None for the mean"),
        ({"criterion": "cdn"}, "criterion='cdn': must be one of"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ParameterError) as refused:
        Settings(**wrong)
    assert str(refused.value).startswith(message)
