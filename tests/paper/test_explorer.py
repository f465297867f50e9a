import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.catalogue import CRITERIA, NOISES, Criterion, Noise
from lib.criteria import stops
from lib.grid.execution import execute
from lib.grid.tasks import NOTEBOOKS
from lib.paper.explorer import Explorer
from lib.paper.explorer_figure import Plot
from lib.runs import load
from lib.runs.folder import ARGS, DIVERGENCE, PERFORMANCES
from lib.stopping import smooth
from lib.study.restop import FinishedRun, Settings
from tests.benchmarks.exploring import make

pytestmark = pytest.mark.slow

NEURONS, RECORDS = 9, 40


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Eight runs of four noise rates and two seeds, with divergences of the layers 2 and 4."""
    folder = tmp_path_factory.mktemp("runs")
    make(folder, 8, RECORDS, NEURONS)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(made, tmp_path / "runs")


@pytest.fixture(scope="module")
def opened(made):
    return Explorer(made)


@pytest.fixture
def explorer(opened):
    """As it is when it was opened."""
    with opened.together():
        opened.noises.value, opened.seeds.value = [noise for _, noise in opened.noises.options], opened.seeds.options
        opened.criterion.value = "cnd"
    opened.reset.click()
    return opened


def edit(run, **parameters):
    """Change parameters of a run folder."""
    args = json.loads((run / ARGS).read_text())
    args["parameters"] |= parameters
    (run / ARGS).write_text(json.dumps(args))


def shown(explorer):
    """What a reader sees, and what it comes from."""
    signals, smoothed = ([getattr(o, name) for o in explorer.outcomes] for name in ("signal", "smoothed"))
    return {
        "figure": explorer.image.value,
        "text": explorer.text.value,
        "signal": str(signals),
        "smoothed": str(smoothed),
        "stop": str([(o.record, o.spent) for o in explorer.outcomes]),
        "runs": str([run.folder.name for run in explorer.chosen]),
    }


def changed(explorer, **controls):
    """Which of these change when controls are moved."""
    before = shown(explorer)
    for name, value in controls.items():
        getattr(explorer, name).value = value
    return {name for name, value in shown(explorer).items() if value != before[name]}


def assert_same(table, expected):
    expected = expected.set_index("run").loc[table["run"]].reset_index()
    pd.testing.assert_frame_equal(table, expected, check_dtype=False, check_exact=True)


def test_as_recorded_the_table_is_that_of_stops(runs_folder, tiny):
    explorer = Explorer(runs_folder)
    expected = stops(load(runs_folder))
    for criterion in tiny["criteria"]:
        explorer.criterion.value = criterion
        assert len(explorer.table) == 4
        assert_same(explorer.table, expected[expected["criterion"] == criterion])


@pytest.mark.parametrize("layer", ["2", "4"])
@pytest.mark.parametrize(
    ("quantile", "window", "patience"),
    [(0.0, 1, 1), (0.37, 3, 4), (0.5, 30, 40), (0.9, 5, 10), (1.0, 2, 7), (None, 4, 3)],
)
def test_other_settings_agree_with_stops_on_signals_computed_anew(explorer, made, layer, quantile, window, patience):
    with explorer.together():
        explorer.layer.value, explorer.window.value, explorer.patience.value = layer, window, patience
        explorer.mean.value = quantile is None
        explorer.quantile.value = 0.9 if quantile is None else quantile
    columns = slice(0, NEURONS) if layer == "2" else slice(NEURONS, None)
    table = load(made).assign(window=window, patience=patience)
    for run, outcome in zip(explorer.chosen, explorer.outcomes, strict=True):
        bits = np.load(run.folder / DIVERGENCE).astype(float)[:, columns]
        signal = bits.mean(axis=1) if quantile is None else np.quantile(bits, quantile, axis=1)
        # CND as recorded is of double precision, the stored divergences are of single precision.
        np.testing.assert_allclose(outcome.signal, signal, rtol=1e-6 if (quantile, layer) == (0.9, "4") else 1e-14)
        np.testing.assert_array_equal(outcome.smoothed, smooth(outcome.signal, window))
        table.loc[table["run"] == run.folder.name, "cnd"] = signal
    expected = stops(table)
    assert_same(explorer.table, expected[expected["criterion"] == "cnd"])


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ({"window": 12}, {"smoothed", "stop"}),
        ({"quantile": 0.3}, {"signal", "smoothed", "stop"}),
        ({"mean": True}, {"signal", "smoothed", "stop"}),
        ({"layer": "2"}, {"signal", "smoothed", "stop"}),
        ({"noises": (("symmetric", 0.4),)}, {"runs", "signal", "smoothed", "stop"}),
        ({"seeds": (1,)}, {"runs", "signal", "smoothed", "stop"}),
    ],
)
def test_each_control_changes_its_part_and_the_figure_and_the_numbers(explorer, controls, expected):
    assert changed(explorer, **controls) == expected | {"figure", "text"}


def test_patience_changes_the_stop_alone(explorer):
    explorer.window.value = 1
    assert changed(explorer, patience=1) == {"stop", "figure", "text"}


def test_as_recorded_takes_every_move_back(explorer):
    before = shown(explorer)
    for moves in ({"window": 9, "quantile": 0.2, "layer": "2", "mean": True}, {"window": 1, "patience": 1}):
        assert "figure" in changed(explorer, **moves)
        explorer.reset.click()
        assert shown(explorer) == before


def test_runs_are_chosen_by_noise_and_seed(explorer):
    assert len(explorer.chosen) == 8
    explorer.noises.value, explorer.seeds.value = (("symmetric", 0.2), ("symmetric", 0.8)), (1,)
    assert explorer.table[["noise_rate", "seed"]].to_numpy().tolist() == [[0.2, 1], [0.8, 1]]
    explorer.seeds.value = ()
    assert explorer.table.empty
    assert "No runs chosen" in explorer.text.value


def test_estimators_that_are_there_are_offered_for_cnd(folder):
    """Each training is recorded a second time, with another estimator, which finds half as many bits."""
    for run in sorted(folder.iterdir()):
        other = shutil.copytree(run, folder / f"{run.name}-gaussian")
        edit(other, cnd_estimator="gaussian")
        np.save(other / DIVERGENCE, np.load(run / DIVERGENCE) / 2)
    explorer = Explorer(folder)
    assert explorer.estimator.options == ("histogram", "gaussian")
    explorer.quantile.value = 0.5
    signals = [outcome.signal for outcome in explorer.outcomes]
    assert changed(explorer, estimator="gaussian") == {"figure", "runs", "signal", "smoothed"}
    assert all("gaussian" in run for run in explorer.table["run"])
    np.testing.assert_allclose([outcome.signal for outcome in explorer.outcomes], np.array(signals) / 2)


def test_criteria_other_than_cnd_need_no_divergence(runs_folder, tmp_path):
    folder = shutil.copytree(runs_folder, tmp_path / "runs")
    for file in folder.glob(f"*/{DIVERGENCE}"):
        file.unlink()
    explorer = Explorer(folder)
    expected = stops(load(runs_folder))
    assert_same(explorer.table, expected[expected["criterion"] == "cnd"])  # as recorded
    explorer.quantile.value = 0.5
    assert explorer.table["record"].isna().all()
    assert explorer.table["reason"].str.startswith("divergence.npy is missing").all()
    assert "Not 4: divergence.npy is missing: CND is there only as 90 % quantile of layer 4" in explorer.text.value
    explorer.criterion.value = "prediction_changes"
    assert_same(explorer.table, expected[expected["criterion"] == "prediction_changes"])
    assert explorer.quantile.disabled
    assert explorer.layer.disabled


def test_a_training_recorded_twice_is_there_once_with_what_is_asked(folder):
    """A run that stores one layer of two: the other run of that training tells the other layer."""
    original = next(folder.glob("*symmetric0.2*seed0*"))
    poorer = shutil.copytree(original, folder / "poorer")
    edit(poorer, cnd_stored_layers=[])
    args = json.loads((poorer / ARGS).read_text())
    (poorer / ARGS).write_text(json.dumps(args | {"layers": {"4": NEURONS}}))
    np.save(poorer / DIVERGENCE, np.load(original / DIVERGENCE)[:, NEURONS:])
    explorer = Explorer(folder)
    for layer in ("2", "4"):
        explorer.layer.value = layer
        assert original.name in set(explorer.table["run"])
        assert len(explorer.table) == 8


def test_a_window_longer_than_the_run_is_told(explorer):
    explorer.window.max = explorer.window.value = RECORDS + 1
    assert explorer.table["gap"].isna().all()
    assert "Not 8: window=41: must be at most the 40 values of the series" in explorer.text.value


def test_layers_without_names_are_one(folder):
    for run in folder.iterdir():
        args = json.loads((run / ARGS).read_text())
        del args["layers"]
        (run / ARGS).write_text(json.dumps(args))
    explorer = Explorer(folder)
    assert explorer.layer.options == (("all neurons", ""),)
    explorer.quantile.value = 0.25
    for run, outcome in zip(explorer.chosen, explorer.outcomes, strict=True):
        np.testing.assert_allclose(
            outcome.signal, np.quantile(np.load(run.folder / DIVERGENCE), 0.25, axis=1), rtol=1e-6
        )


def test_without_runs_one_line_says_what_to_do(tmp_path):
    explorer = Explorer(tmp_path / "none")
    assert explorer.text.value == f"No finished run in {tmp_path / 'none'}: run `make demo` first."
    assert explorer.table.empty
    assert "gap" in explorer.table


def test_environment_variables_in_the_folder_are_replaced(made, monkeypatch):
    monkeypatch.setenv("OF_RUNS", str(made))
    explorer = Explorer("$OF_RUNS")
    explorer.quantile.value = 0.5
    assert explorer.table["gap"].notna().all()


def test_unfinished_runs_are_left_out_and_told(folder):
    unfinished = next(folder.iterdir())
    (unfinished / "weights.pt").unlink()
    explorer = Explorer(folder)
    assert explorer.skipped == {unfinished.name: "unfinished: no weights.pt"}
    assert len(explorer.table) == 7
    assert "Left out, as `skipped` tells: 1 unfinished or broken." in explorer.text.value


def test_studies_are_named_as_in_tables_and_figures(folder):
    edit(next(folder.glob("*symmetric0.2*seed0*")), cnd_bins=80, learning_rate=0.5)
    edit(next(folder.glob("*symmetric0.4*seed0*")), learning_rate=0.5)
    explorer = Explorer(folder)
    faster = "Digits (learning rate 0.5)"
    assert explorer.study.options == ("Digits (learning rate 0.1)", faster, f"{faster}, CND bins 80")
    assert len(explorer.chosen) == 6
    explorer.study.value = f"{faster}, CND bins 80"
    assert explorer.table["noise_rate"].tolist() == [0.2]


def test_a_noise_and_a_criterion_of_ones_own_are_offered_by_their_labels(folder, monkeypatch):
    monkeypatch.setitem(NOISES, "mine", Noise("mine", "my noise", lambda **_: None))
    monkeypatch.setitem(CRITERIA, "own", Criterion("own", "Mine", lambda view: 0.0, "min", "share"))
    for run in folder.iterdir():
        edit(run, noise="mine", criteria=["cnd", "own"])
        header, *lines = (run / PERFORMANCES).read_text().splitlines()
        values = [f"{line},{abs(record - 7)}" for record, line in enumerate(lines)]
        (run / PERFORMANCES).write_text("\n".join([f"{header},own", *values, ""]))
    explorer = Explorer(folder)
    assert [label for label, _ in explorer.noises.options][:2] == ["my noise 20%", "my noise 40%"]
    explorer.criterion.value, explorer.window.value = "own", 1
    assert explorer.criterion.label == "Mine"
    assert explorer.table["record"].tolist() == [8] * 8


def test_runs_of_different_lengths_share_a_figure():
    parameters = {"criteria": "cnd", "noise": "pair", "noise_rate": 0.4, "records_per_epoch": 1}
    parameters |= {"window": 2, "patience": 3, "cnd_quantile": 0.9, "cnd_aggregation": "quantile", "cnd_layer": "4"}
    parameters |= {"cnd_estimator": "histogram", "cnd_stored_layers": ""}
    runs = []
    for seed, records in enumerate((5, 50)):
        columns = {name: np.linspace(0, 1, records) for name in ("epoch", "test_accuracy", "cnd")}
        runs.append(FinishedRun(Path(), parameters | {"seed": seed}, columns))
        runs[-1].layers = {"4": NEURONS}
    plot = Plot([("pair", 0.4)], 100)
    settings = Settings(window=9, layer="4")
    outcomes = [run.stopped(settings) for run in runs]
    assert [outcome.record for outcome in outcomes] == [None, 50]
    assert plot.png(runs, outcomes, settings) != plot.png(runs[:1], outcomes[:1], settings)


def test_the_image_shows_every_noise_in_its_colour(explorer):
    image = np.asarray(Image.open(io.BytesIO(explorer.image.value)).convert("RGB"))
    assert image.shape == (440, 1050, 3)
    for text in explorer._plot._gaps.get_yticklabels():
        assert (np.abs(image - 255 * np.array(text.get_color()[:3])) < 1).all(axis=-1).any()


def test_the_notebook_runs_without_runs(tmp_path):
    assert (
        execute(NOTEBOOKS / "explorer.ipynb", tmp_path / "out.ipynb", {"runs_folder": str(tmp_path / "none")}) is None
    )
    assert "run `make demo` first" in (tmp_path / "out.ipynb").read_text()
