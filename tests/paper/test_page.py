import os

import pandas as pd
import pytest

from lib.paper import printing, provenance
from lib.paper.page import Page
from lib.paper.printing import Estimate
from lib.paper.provenance import Provenance
from lib.parameters import ROOT

SVG = '<?xml version="1.0"?>\n<svg height="9pt" width="{}" version="1.1"></svg>'
TABLE = pd.DataFrame({"Noise": ["x"], "Criterion": [Estimate("0.5", best=True)]})


@pytest.fixture
def page(tmp_path):
    (tmp_path / "a.svg").write_text(SVG.format("266.4pt"))
    (tmp_path / "b.svg").write_text(SVG.format("1044pt"))
    runs, other = ("run-1", "run<2"), ()
    made = {"a": Provenance("notebooks/n.ipynb", "0123456789abcdef", runs, "load & digits")}
    made |= {"b": Provenance("notebooks/m.ipynb", "unknown", other, "digits"), "t": made["a"], "unseen": made["a"]}
    provenance.write(made, "n", tmp_path)
    printing.write("t", TABLE, "caption & more", made["t"], tmp_path, pd.DataFrame({"layer": ["None", "4"]}))
    return Page(tmp_path, Provenance("notebooks/report.ipynb", "fedcba9876543210", ("run-1",), "digits"))


def test_a_figure_is_numbered_and_tells_how_broad_it_is(page):
    first, second = page.figure("a", "caption < 1").data, page.figure("b", "").data
    assert "<strong>Figure 1.</strong> caption &lt; 1" in first
    assert "<strong>Figure 2.</strong>" in second
    assert 'alt="caption &lt; 1"' in first
    assert "--natural: 266.4pt" in first
    assert "--natural: 1044pt" in second
    assert 'src="data:image/svg+xml;base64,' in first


def test_tables_are_counted_apart_and_words_are_escaped(page):
    made = page.table("t", TABLE, "caption & more").data
    plain = page.words("w", pd.DataFrame({"a": ["<b>"], "c": [1]}), "c").data
    assert "<strong>Table 1.</strong>" in made
    assert "caption &amp; more" in made
    assert "<td><strong>0.5</strong></td>" in made
    assert "Table 2" in plain
    assert "&lt;b&gt;" in plain


def test_every_link_to_provenance_has_its_place(page, tmp_path):
    shown = page.figure("a", "").data + page.figure("b", "").data + page.table("t", TABLE, "").data
    told = page.provenance().data
    for name in ("a", "b", "t"):
        assert f'href="#made-{name}"' in shown
        assert told.count(f'id="made-{name}"') == 1
    assert "unseen" not in told
    own = page.words("w", pd.DataFrame({"a": ["x"], "b": [1]}), "").data
    assert 'href="#made-w"' in own
    assert 'id="made-w"' in page.provenance().data
    assert "notebooks/report.ipynb</a>, commit <code>fedcba987654" in page.provenance().data
    assert told.count("<p>Runs: 2. Data: load &amp; digits.</p>") == 1
    assert "<code>run&lt;2</code>" in told
    link = os.path.relpath(ROOT / "notebooks" / "n.ipynb", tmp_path)
    assert f'<a href="{link}">notebooks/n.ipynb</a>, commit <code>0123456789ab</code>' in told


def test_the_numbers_of_a_table_are_read_as_they_were_written(page):
    assert page.data("t")["layer"].tolist() == ["None", "4"]


def test_what_no_notebook_made_is_known(page):
    assert page.made("a")
    assert not page.made("z")
