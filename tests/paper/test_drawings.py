"""What the summary notebooks draw."""

from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib.catalogue import AVERAGE, CRITERIA
from lib.criteria import stops
from lib.paper import figures
from lib.runs import table as runs
from lib.study import ablation, statistics
from lib.study.statistics import Friedman
from lib.study.studies import Variant, studies
from tests.cells import defined
from tests.looks import texts_overlap

pytestmark = pytest.mark.slow

mpl.use("agg")
idea, summary_choices = defined("idea"), defined("summary_choices")
summary_figures, summary_tables = defined("summary_figures"), defined("summary_tables")


@pytest.fixture(scope="module")
def study(study_folder):
    figures.style()
    (study,) = studies(runs.load(study_folder))
    return study


def test_ranks_are_drawn_where_they_are_and_bars_join_what_does_not_differ():
    ranks = {"cnd": 1.0, "prediction_changes": 1.8, "known_polluted_accuracy": 3.9, "forgetting_events": 3.3}
    across = Friedman(9.0, 0.01, 30, ranks)
    figure = summary_tables.critical_difference(across)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"CND  1.00", "PC  1.80", "KPA  3.90", "Forgetting  3.30"} <= set(texts)
    assert f"critical difference {across.critical_difference:.2f}" in texts
    bars = [line.get_xdata() for line in figure.axes[0].lines if line.get_linewidth() == 3]
    assert np.allclose(bars, [(0.96, 1.84), (3.26, 3.94)])  # the difference is 0.86
    assert texts_overlap(figure) == []
    plt.close(figure)


def test_many_ranks_have_room():
    names = [name for name, row in CRITERIA.items() if not row.members][:11]
    names += [name + AVERAGE for name in names]
    figure = summary_tables.critical_difference(Friedman(9.0, 0.01, 4, dict(zip(names, range(1, 23), strict=True))))
    assert texts_overlap(figure) == []
    figure.draw_without_rendering()
    ends = [text.get_window_extent() for text in figure.axes[0].texts]
    assert min(box.x0 for box in ends) >= 0
    assert max(box.x1 for box in ends) <= figure.bbox.x1
    plt.close(figure)


def test_without_a_test_there_are_ranks_and_no_bars():
    figure = summary_tables.critical_difference(Friedman(np.nan, np.nan, 1, {"cnd": 1.0, "prediction_changes": 2.0}))
    assert not any(line.get_linewidth() == 3 for line in figure.axes[0].lines)
    plt.close(figure)


def test_heat_maps_share_a_scale_and_show_numbers(study, study_folder):
    maps = ablation.heat_maps(ablation.Divergences(study.runs, study_folder))
    figure = summary_choices.heat_maps(maps)
    meshes = [axis.collections[0] for axis in figure.axes[:3]]
    assert len({mesh.get_clim() for mesh in meshes}) == 1
    shown = figure.axes[1].texts[0].get_text()
    assert shown == f"{maps['window × quantile'].iloc[0, 0]:.1f}"
    assert texts_overlap(figure) == []
    plt.close(figure)


def test_layers_have_a_line_each(study, study_folder):
    stored = ablation.Divergences(study.runs, study_folder)
    figure = summary_choices.layers(ablation.layer_signals(stored), study.runs)
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == [*(f"Layer {name}" for name in stored.layers), "Test accuracy (0 to 1)"]
    assert texts_overlap(figure) == []
    plt.close(figure)


def test_high_rates_are_drawn_for_symmetric_noise(study):
    summary = statistics.summary(stops(study.runs), statistics.correlations(study.runs))
    figure = summary_figures.high_rates(study.runs, summary)
    oracle = summary.query("criterion == 'oracle'")["test_accuracy_mean"].to_numpy()
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx(oracle)
    changes = summary.query("criterion == 'prediction_changes'")["kendall_mean"].to_numpy()
    drawn = next(line for line in figure.axes[1].lines if line.get_label() == "PC")
    assert drawn.get_ydata() == pytest.approx(-changes, nan_ok=True)  # a minimum is looked for
    assert texts_overlap(figure) == []
    plt.close(figure)


def test_gaps_show_means_and_intervals(runs_folder):
    figures.style()
    table = runs.load(runs_folder)
    summary = statistics.summary(stops(table), statistics.correlations(table))
    figure = summary_figures.gaps(summary)
    assert [axis.get_title() for axis in figure.axes] == ["clean labels", "symmetric"]
    cnd = summary.query("criterion == 'cnd' and noise == 'symmetric'").iloc[0]
    line, _, (bars,) = next(one.lines for one in figure.axes[1].containers if one.get_label() == "CND")
    assert line.get_ydata() == pytest.approx([cnd["gap_mean"]])
    assert bars.get_segments()[0][:, 1] == pytest.approx([cnd["gap_low"], cnd["gap_high"]])
    plt.close(figure)


def test_densities_have_a_ridge_a_class_and_survive_a_class_of_one_sample():
    figure, axis = plt.subplots()
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(50, int), np.ones(50, int), 2]
    idea.densities(axis, "title", rng.normal(size=101), labels)
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["0", "1"]
    plt.close(figure)


def test_signal_against_accuracy_marks_the_stop():
    figure, axis = plt.subplots()
    signal, accuracy = np.array([1.0, 2, 3, 2, 1]), [0.1, 0.5, 0.7, 0.6, 0.5]
    idea.signal_against_accuracy(axis, idea.smooth(signal, 2), accuracy, 3)
    assert "0.700" in axis.get_title()
    assert axis.lines[-1].get_xdata()[0] == 3
    plt.close(figure)


def test_measures_are_those_of_the_variant_that_repeats_trainings_to_record_more(study):
    def repeated(criteria, **changed):
        return Variant(changed, study.runs.assign(criteria=criteria))

    fewer, more, most = (repeated(f"cnd{more}") for more in ("", ",edge_entropy", ",edge_entropy,evidence"))
    other = repeated("cnd,edge_entropy,evidence,gradient_disparity", cnd_bins=10)
    variants = [fewer, most, other, more]
    assert summary_tables.measured_again(replace(study, variants=variants)) is most
    assert summary_tables.measured_again(replace(study, variants=[fewer, other])) is None
    assert summary_tables.measured_again(replace(study, variants=[])) is None
