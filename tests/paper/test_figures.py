import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pypdf
import pytest
from PIL import Image

from lib.criteria import CRITERIA, stops
from lib.paper import diagrams, figures
from lib.paper.provenance import Provenance
from lib.runs import table as runs
from lib.stopping import smooth
from lib.study import statistics
from tests.looks import texts_overlap

mpl.use("agg")
PROVENANCE = Provenance("notebooks/some.ipynb", "abc123", ("run-1",), "load_digits")


@pytest.fixture(scope="module")
def table(runs_folder):
    figures.style()
    return runs.load(runs_folder)


@pytest.fixture(scope="module")
def summary(table):
    return statistics.summary(stops(table), statistics.correlations(table))


def many(table, count):
    """As many settings as asked for, each like the last one."""
    last = table[table["noise"] == "symmetric"]
    return pd.concat(
        [last.assign(noise_rate=0.1 + 0.05 * i, run=last["run"].astype(str) + str(i)) for i in range(count)]
    )


def test_nothing_overlaps_or_is_cut_off(table, summary):
    chosen = stops(table)
    wide = many(table, 10)
    wide_summary = statistics.summary(stops(wide), statistics.correlations(wide))
    for figure in (
        figures.memorization(table),
        figures.signals(table, chosen),
        figures.gaps(summary),
        figures.memorization(wide),
        figures.gaps(wide_summary),
    ):
        assert texts_overlap(figure) == []
        assert figure.get_figwidth() <= figures.WIDTH
        plt.close(figure)


def test_settings_are_in_order_and_pages_are_even(table):
    wide = pd.concat([many(table, 6), table[table["noise"] == "none"]])
    assert [name for name, _ in figures.settings(wide)][:2] == ["clean labels", "symmetric 10%"]
    pages = [[name for name, _ in figures.settings(page)] for page in figures.pages(wide)]
    assert [len(page) for page in pages] == [4, 3]
    assert len({name for page in pages for name in page}) == 7


def test_signals_mark_every_stop(table, tiny):
    figure = figures.signals(table, stops(table))
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(entries) == 2 + len(tiny["criteria"])
    plt.close(figure)


def test_gaps_show_means_and_intervals(table, summary):
    figure = figures.gaps(summary)
    assert [axis.get_title() for axis in figure.axes] == ["clean labels", "symmetric"]
    cnd = summary.query("criterion == 'cnd' and noise == 'symmetric'").iloc[0]
    line, _, (bars,) = next(one.lines for one in figure.axes[1].containers if one.get_label() == "CND")
    assert line.get_ydata() == pytest.approx([cnd["gap_mean"]])
    assert bars.get_segments()[0][:, 1] == pytest.approx([cnd["gap_low"], cnd["gap_high"]])
    plt.close(figure)


def test_the_same_figure_gives_the_same_bytes(summary, tmp_path):
    paths = []
    for name in ("first", "second"):
        figure = figures.gaps(summary)
        paths.append(figures.save(figure, tmp_path / name, "gaps", PROVENANCE))
        plt.close(figure)
    assert [path.suffix for path in paths[0]] == [".svg", ".pdf", ".png"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*paths, strict=True))


def test_files_carry_their_provenance(summary, tmp_path):
    figure = figures.gaps(summary)
    svg, pdf, png = figures.save(figure, tmp_path, "gaps", PROVENANCE)
    plt.close(figure)
    told = "Made by notebooks/some.ipynb at commit abc123 from 1 run (run-1). load_digits."
    assert f"<dc:description>{told}</dc:description>" in svg.read_text()
    assert pypdf.PdfReader(pdf).metadata.subject == told
    with Image.open(png) as image:
        assert image.text["Description"] == told
        assert image.size[0] == pytest.approx(200 * figure.get_figwidth(), abs=2)


def test_colours_are_distinct():
    assert len(set(figures.COLOURS.values())) == len(CRITERIA)


def test_densities_have_a_ridge_a_class_and_survive_a_class_of_one_sample():
    figure, axis = plt.subplots()
    rng = np.random.default_rng(0)
    labels = np.r_[np.zeros(50, int), np.ones(50, int), 2]
    diagrams.densities(axis, "title", rng.normal(size=101), labels)
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["0", "1"]
    plt.close(figure)


def test_signal_against_accuracy_marks_the_stop():
    figure, axis = plt.subplots()
    signal, accuracy = np.array([1.0, 2, 3, 2, 1]), [0.1, 0.5, 0.7, 0.6, 0.5]
    diagrams.signal_against_accuracy(axis, smooth(signal, 2), accuracy, 3, "cnd")
    assert "0.700" in axis.get_title()
    assert axis.lines[-1].get_xdata()[0] == 3
    plt.close(figure)
