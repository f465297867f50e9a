import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from lib.paper import printing
from lib.paper.printing import Html, Latex
from lib.paper.provenance import Provenance

PROVENANCE = Provenance("notebooks/some.ipynb", "abc123", ("run-1", "run_2"), "load_digits & more")
CAPTION = "100 % of a_b & c, p < 0.05, τ – #1 $ ~ ^ {x} \\ ± ×"


def table(rows):
    def printed(form):
        return pd.DataFrame(
            {
                form.text("Noise"): [form.text("pair 40%") if i % 3 == 0 else "" for i in range(rows)],
                "Criterion": [form.text("KPA_log & <1>")] * rows,
                form.text("Kendall τ"): [form.number("0.5", ("0.1", "0.9"), i == 0) for i in range(rows)],
            }
        )

    return printed


@pytest.fixture
def written(tmp_path):
    data = pd.DataFrame({"value": [1 / 3, np.nan]})
    return lambda rows: printing.write("some_table", data, table(rows), CAPTION, PROVENANCE, tmp_path / "figures")


def test_three_files_with_their_provenance(written):
    csv, tex, html = written(3)
    assert pd.read_csv(csv)["value"].tolist() == pytest.approx([1 / 3, np.nan], nan_ok=True, abs=1e-5)
    told = "Made by notebooks/some.ipynb at commit abc123 from 2 runs (run-1, run_2). load_digits & more."
    assert tex.read_text().splitlines()[0] == f"% {told}"
    assert 'content="Made by notebooks/some.ipynb at commit abc123' in html.read_text()


def test_the_page_stands_by_itself(written):
    html = written(3)[2].read_text()
    assert html.startswith("<!DOCTYPE html>")
    assert "<style>" in html
    assert "<strong>0.5</strong> <small>[0.1, 0.9]</small>" in html
    assert "KPA_log &amp; &lt;1&gt;" in html
    assert "src=" not in html


@pytest.mark.parametrize("rows", [4, 60])
def test_latex_compiles_as_it_is(written, tmp_path, rows):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (apt-get install texlive-latex-recommended)")
    tex = written(rows)[1]
    packages = r"\usepackage{booktabs,graphicx,longtable}"
    (tmp_path / "paper.tex").write_text(
        f"\\documentclass{{article}}{packages}\\begin{{document}}\\input{{{tex}}}\\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for _ in range(3):  # longtable settles its columns over several runs
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "Missing character" not in (tmp_path / "paper.log").read_text()


def test_a_long_table_breaks_across_pages(written):
    assert r"\begin{longtable}" in written(60)[1].read_text()
    short = written(4)[1].read_text()
    assert r"\begin{table}" in short
    assert r"\toprule" in short
    assert short.count(r"\midrule") == 2  # below the head, and between the noises


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (1.25, 1, "1.2"),
        (-0.04, 1, "0.0"),
        (-0.06, 1, "-0.1"),
        (np.nan, 1, ""),
        (0.0004, 3, "<0.001"),
        (0.0123, 3, "0.012"),
    ],
)
def test_plain_numbers(value, digits, expected):
    assert printing.plain(value, digits) == expected


def test_a_number_without_interval():
    assert Html.number("1.0", None, False) == "1.0"
    assert Latex.number("1.0", None, True) == r"$\mathbf{1.0}$"
