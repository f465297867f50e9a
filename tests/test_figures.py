import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from lib import figures, runs
from lib.criteria import CRITERIA, stops
from lib.stopping import smooth

mpl.use("agg")


@pytest.fixture(scope="module")
def table(runs_folder):
    figures.style()
    return runs.load(runs_folder)


def texts_overlap(figure):
    """Pairs of labels (axis labels, titles, legend) that are drawn over each other, and labels cut off."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    labels = [t for axis in figure.axes for t in (axis.title, axis.xaxis.label, axis.yaxis.label)]
    labels += [text for legend in figure.legends for text in legend.get_texts()]
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in labels if t.get_text() and t.get_visible()]
    cut = [
        name for name, box in boxes if box.x0 < -1 or box.y0 < -1 or not figure.bbox.padded(1).contains(box.x1, box.y1)
    ]
    pairs = [
        (a, b)
        for i, (a, first) in enumerate(boxes)
        for b, second in boxes[i + 1 :]
        if first.padded(-1).overlaps(second)
    ]
    return pairs + cut


def test_nothing_overlaps_or_is_cut_off(table):
    chosen = stops(table)
    for figure in (figures.memorization(table), figures.signals(table, chosen), figures.gaps(chosen)):
        assert texts_overlap(figure) == []
        plt.close(figure)


def test_signals_mark_every_stop(table, tiny):
    figure = figures.signals(table, stops(table))
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(entries) == 2 + len(tiny["criteria"])
    plt.close(figure)


def test_the_same_figure_gives_the_same_bytes(table, tmp_path):
    paths = []
    for name in ("first", "second"):
        figure = figures.gaps(stops(table))
        paths.append(figures.save(figure, tmp_path / name, "gaps"))
        plt.close(figure)
    assert [path.suffix for path in paths[0]] == [".svg", ".png"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*paths, strict=True))


def test_colours_are_distinct():
    assert len(set(figures.COLOURS.values())) == len(CRITERIA)


def test_densities_have_a_ridge_a_class_and_survive_a_class_of_one_sample():
    figure, axis = plt.subplots()
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(50, int), np.ones(50, int), 2]
    figures.densities(axis, "title", rng.normal(size=101), labels)
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["0", "1"]
    plt.close(figure)


def test_signal_against_accuracy_marks_the_stop():
    figure, axis = plt.subplots()
    signal, accuracy = np.array([1.0, 2, 3, 2, 1]), [0.1, 0.5, 0.7, 0.6, 0.5]
    figures.signal_against_accuracy(axis, smooth(signal, 2), accuracy, 3, "cnd")
    assert "0.700" in axis.get_title()
    assert axis.lines[-1].get_xdata()[0] == 3
    plt.close(figure)
