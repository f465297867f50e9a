import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from lib.paper import printing
from lib.paper.printing import Estimate
from lib.paper.provenance import Provenance

PROVENANCE = Provenance("notebooks/some.ipynb", "abc123", ("run-1", "run_2"), "load_digits & more")
CAPTION = "100 % of a_b & c, p < 0.05, τ – #1 $ ~ ^ {x} \\ ± ×"


def table(rows):
    return pd.DataFrame(
        {
            "Noise": ["pair 40%" if i % 3 == 0 else "" for i in range(rows)],
            "Criterion": ["KPA_log & <1>"] * rows,
            "Kendall τ": [Estimate("0.5", "0.1", "0.9", best=i == 0) for i in range(rows)],
            "Gap": [Estimate("1.0", best=i == 0) for i in range(rows)],
        }
    )


@pytest.fixture
def written(tmp_path):
    data = pd.DataFrame({"value": [1 / 3, np.nan]})
    folder = tmp_path / "figures"
    return lambda rows, **more: printing.write(
        "some_table", table(rows).assign(**more), CAPTION, PROVENANCE, folder, data
    )


def test_latex_with_its_provenance_and_numbers(written, tmp_path):
    tex, csv = written(3)
    assert pd.read_csv(csv)["value"].tolist() == pytest.approx([1 / 3, np.nan], nan_ok=True, abs=1e-5)
    told = "Made by notebooks/some.ipynb at commit abc123 from 2 runs (run-1, run_2). load_digits & more."
    latex = tex.read_text()
    assert latex.startswith(f"% {told}\n")
    assert r"\caption{100 \% of a\_b \& c, p $<$ 0.05, $\tau$ -- \#1 \$" in latex
    assert r"pair 40\% & KPA\_log \& $<$1$>$ & $\mathbf{0.5}_{0.1}^{0.9}$ & $\mathbf{1.0}$ \\" in latex
    assert r"& \shortstack[r]{Kendall\\$\tau$} &" in latex
    assert r"\label{tab:some_table}" in latex


def test_without_numbers_there_is_latex_alone(tmp_path):
    paths = printing.write("glance", table(3), CAPTION, PROVENANCE, tmp_path)
    assert [path.name for path in paths] == [path.name for path in tmp_path.iterdir()] == ["glance.tex"]


def test_html_has_intervals_in_small_type_and_is_escaped():
    html = printing.html(table(3), "own")
    assert 'class="dataframe labels-2 own"' in html
    assert "<td><strong>0.5</strong> <small>[0.1,&nbsp;0.9]</small></td>" in html
    assert "<td><strong>1.0</strong></td>" in html
    assert "<td>KPA_log &amp; &lt;1&gt;</td>" in html
    assert 'class="dataframe labels-1"' in printing.html(table(3).drop(columns="Criterion"))


@pytest.mark.slow
@pytest.mark.parametrize("rows", [4, 60])
def test_latex_compiles_as_it_is(written, tmp_path, rows):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (apt-get install texlive-latex-recommended)")
    more = {f"Gap to oracle ({i} points)": [Estimate("-10.5", "-20.1", "30.9")] * rows for i in range(10)}
    tex = written(rows, **more)[0]
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
    assert r"\begin{longtable}" in written(60)[0].read_text()
    short = written(4)[0].read_text()
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


def test_an_estimate_is_what_a_row_holds():
    row = pd.Series(
        {"gap_mean": 1.26, "gap_low": 0.5, "gap_high": np.nan, "spent": 3.0, "spent_low": 2, "spent_high": 4}
    )
    assert Estimate.of(row, "gap", 1, best=True) == ("1.3", "0.5", "", True)
    assert Estimate.of(row, "spent", 0) == ("3", "2", "4", False)
    assert Estimate.of(row * np.nan, "gap", 1) == "–"
