import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pypdf
import pytest

from lib.criteria import CRITERIA, stops
from lib.paper import figures
from lib.paper.provenance import Provenance
from lib.runs import table as runs
from lib.study import statistics
from tests.cells import defined
from tests.looks import texts_overlap

mpl.use("agg")
summary_figures = defined("summary_figures")
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


@pytest.mark.slow
def test_nothing_overlaps_or_is_cut_off(table, summary):
    chosen = stops(table)
    wide = many(table, 10)
    wide_summary = statistics.summary(stops(wide), statistics.correlations(wide))
    for figure in (
        figures.memorization(table),
        figures.signals(table, chosen),
        summary_figures.gaps(summary),
        figures.memorization(wide),
        summary_figures.gaps(wide_summary),
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


def test_the_same_figure_gives_the_same_bytes(table, tmp_path):
    paths = []
    for name in ("first", "second"):
        figure = figures.memorization(table)
        paths.append(figures.save(figure, tmp_path / name, "accuracy", PROVENANCE))
    assert [path.suffix for path in paths[0]] == [".svg", ".pdf"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*paths, strict=True))


def test_files_carry_their_provenance_and_their_text(table, tmp_path):
    figure = figures.memorization(table)
    svg, pdf = figures.save(figure, tmp_path, "accuracy", PROVENANCE)
    assert not plt.fignum_exists(figure.number)
    told = "Made by notebooks/some.ipynb at commit abc123 from 1 run (run-1). load_digits."
    assert f"<dc:description>{told}</dc:description>" in svg.read_text()
    reader = pypdf.PdfReader(pdf)
    assert (reader.metadata.title, reader.metadata.subject) == ("accuracy", told)
    assert "Corrupted samples, wrong label (memorized)" in reader.pages[0].extract_text()
    assert float(reader.pages[0].mediabox.width) == pytest.approx(72 * figure.get_figwidth(), abs=1)


def test_colours_and_markers_tell_criteria_apart():
    assert len({(row.colour, row.marker) for row in CRITERIA.values()}) == len(CRITERIA)
