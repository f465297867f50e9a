import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.criteria import stops
from lib.paper import diagrams, figures
from lib.runs import table as runs
from lib.study import ablation, statistics
from lib.study.statistics import Friedman
from lib.study.studies import studies
from tests.looks import texts_overlap

mpl.use("agg")


@pytest.fixture(scope="module")
def study(study_folder):
    figures.style()
    (study,) = studies(runs.load(study_folder))
    return study


def test_ranks_are_drawn_where_they_are_and_bars_join_what_does_not_differ():
    ranks = {"cnd": 1.0, "prediction_changes": 1.8, "known_polluted_accuracy": 3.9, "forgetting_events": 3.3}
    across = Friedman(9.0, 0.01, 30, ranks)
    figure = diagrams.critical_difference(across)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"CND  1.00", "PC  1.80", "KPA  3.90", "Forgetting  3.30"} <= set(texts)
    assert f"critical difference {across.critical_difference:.2f}" in texts
    bars = [line.get_xdata() for line in figure.axes[0].lines if line.get_linewidth() == 3]
    assert np.allclose(bars, [(0.96, 1.84), (3.26, 3.94)])  # the difference is 0.86
    assert texts_overlap(figure) == []
    plt.close(figure)


def test_without_a_test_there_are_ranks_and_no_bars():
    figure = diagrams.critical_difference(Friedman(np.nan, np.nan, 1, {"cnd": 1.0, "prediction_changes": 2.0}))
    assert not any(line.get_linewidth() == 3 for line in figure.axes[0].lines)
    plt.close(figure)


def test_heat_maps_share_a_scale_and_show_numbers(study, study_folder):
    maps = ablation.heat_maps(ablation.Divergences(study.runs, study_folder))
    figure = diagrams.heat_maps(maps)
    meshes = [axis.collections[0] for axis in figure.axes[:3]]
    assert len({mesh.get_clim() for mesh in meshes}) == 1
    shown = figure.axes[1].texts[0].get_text()
    assert shown == f"{maps['window × quantile'].iloc[0, 0]:.1f}"
    assert texts_overlap(figure) == []
    plt.close(figure)


def test_layers_have_a_line_each(study, study_folder):
    stored = ablation.Divergences(study.runs, study_folder)
    figure = diagrams.layers(ablation.layer_signals(stored), study.runs)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == [*(f"Layer {name}" for name in stored.layers), "Test accuracy (0 to 1)"]
    assert texts_overlap(figure) == []
    plt.close(figure)


def test_high_rates_are_drawn_for_symmetric_noise(study):
    assert diagrams.has_rates(study.runs)
    assert not diagrams.has_rates(study.runs[study.runs["noise_rate"] == 0.2])
    summary = statistics.summary(stops(study.runs), statistics.correlations(study.runs))
    figure = diagrams.high_rates(study.runs, summary)
    oracle = summary.query("criterion == 'oracle'")["test_accuracy_mean"].to_numpy()
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx(oracle)
    changes = summary.query("criterion == 'prediction_changes'")["kendall_mean"].to_numpy()
    drawn = next(line for line in figure.axes[1].lines if line.get_label() == "PC")
    assert drawn.get_ydata() == pytest.approx(-changes, nan_ok=True)  # a minimum is looked for
    assert texts_overlap(figure) == []
    plt.close(figure)


def test_the_shape_of_cnd_by_hand():
    records = pd.DataFrame(
        {"noise": "symmetric", "noise_rate": 0.4, "seed": 0, "window": 2, "cnd": [np.nan, 1, 3, 3, 1]}
    )
    (row,) = diagrams.cnd_shape(records).to_dict("records")
    assert (row["peak"], row["fall"], row["at_once"], row["to_the_end"]) == (3, 1, 0, 0)
    assert diagrams.cnd_shape(records.drop(columns="cnd")).empty
    assert diagrams.cnd_shape(records.assign(cnd=np.nan)).empty
    assert row["jitter"] == pytest.approx(np.std([2, 0, -2], ddof=1) / np.sqrt(2))
