"""In a copy of the project: what is added in one place is found wherever results are shown, and commands are tidy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from pypdf import PdfReader

from lib.parameters import ROOT

pytestmark = pytest.mark.slow

ROWS = """

def _rings(experiment):
    import torch

    from lib.data import Dataset

    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    angle = 6.28 * torch.rand(300, generator=generator)
    x = (1 + labels)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return Dataset(x[:200], labels[:200], x[200:], labels[200:], ("inner", "middle", "outer"), "made rings")


def _first_class(labels, rate, num_classes, seed):
    from lib.noise import compare

    noisy = labels.clone()
    noisy[: round(rate * len(labels))] = 0
    return compare(noisy, labels)


DATASETS.add(Dataset("rings", "Concentric rings", _rings, of_images=False))
NOISES.add(Noise("first_class", "first class", _first_class))
CRITERIA.add(Criterion("logit_norm", "Norm of logits", lambda view: view.seen.logits.norm().item(), "min", "logits"))
"""
GRID = {
    "notebook": "digits",
    "parameters": {
        "dataset": "rings",
        "noise": "first_class",
        "noise_rate": 0.3,
        "epochs": 4,
        "window": 1,
        "patience": 1,
        "probe_size": 10,
        "criteria": ["cnd", "prediction_changes", "logit_norm"],
        "seed": [0, 1],
    },
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the project, kept by git with three rows more, in which two runs and their report have been made."""
    passed_over = shutil.ignore_patterns(
        ".git", ".venv", "runs", "data", "shared", ".*_cache", ".hypothesis", "*.egg-info"
    )
    folder = shutil.copytree(
        ROOT,
        tmp_path_factory.mktemp("checkout") / "project",
        ignore=lambda folder, names: passed_over(folder, names) if Path(folder) == ROOT else (),
    )
    with (folder / "lib" / "catalogue.py").open("a") as catalogue:
        catalogue.write(ROWS)
    (folder / "grid.yaml").write_text(yaml.safe_dump(GRID))
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "all"]):
        git(folder, *command)
    python(folder, "-m", "lib", "run", "grid.yaml")
    python(folder, "-m", "lib", "report", "--runs", "runs")
    return folder


def git(folder, *arguments):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def python(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "MPLBACKEND": "agg"},  # what notebooks show is not looked at
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_they_are_in_tables_figures_and_report(checkout):
    figures = checkout / "runs" / "figures"
    table = pd.read_csv(figures / "criteria_rings.csv")
    assert set(table["dataset"]) == {"rings"}
    assert set(table["noise"]) == {"first_class"}
    assert "logit_norm" in set(table["criterion"])
    report = (figures / "report.html").read_text()
    for told in (
        "Concentric rings",
        "first class 30%",
        "Norm of logits",
        "made rings; realised noise: first class 30%",
    ):
        assert told in report, told
    assert "Norm of logits" in (figures / "criteria_rings.tex").read_text()
    for figure in ("gap_by_rate_rings", "signals_rings_1"):
        (page,) = PdfReader(figures / f"{figure}.pdf").pages
        assert "Norm of logits" in page.extract_text().replace("\n", " "), figure


def test_they_are_in_the_explorer(checkout):
    code = (
        "from lib.paper.explorer import Explorer\n"
        "explorer = Explorer('runs')\n"
        "print(explorer.study.options, explorer.criterion.options, explorer.noises.options)\n"
        "explorer.criterion.value = 'logit_norm'\n"
        "print(explorer.table['record'].notna().sum())\n"
    )
    told = python(checkout, "-c", code)
    for name in ("Concentric rings", "('Norm of logits', 'logit_norm')", "first class 30%"):
        assert name in told
    assert told.split()[-1] == "2"


def test_runs_and_report_change_no_file_that_is_kept_with_the_code(checkout):
    assert (checkout / "runs" / "figures" / "report.html").exists()
    assert git(checkout, "status", "--porcelain") == ""
