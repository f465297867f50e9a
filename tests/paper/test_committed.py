"""What is shown is what the logs say: committed tables and figures are rebuilt, byte for byte."""

import re

import pytest

from lib.grid.execution import executed
from lib.grid.tasks import NOTEBOOKS
from lib.parameters import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not any((ROOT / "logs").glob("*.parquet")), reason="no runs are archived in logs"),
]

# The idea is shown on a training of its own.
DRAWN_BY_TRAINING = ("idea", "densities")


def test_committed_results_come_from_the_logs(tmp_path):
    for name in ("summary_tables", "summary_figures", "summary_choices"):
        executed(NOTEBOOKS / f"{name}.ipynb", {"runs_folder": "logs", "figures_folder": str(tmp_path)})
    committed, rebuilt = contents(ROOT / "figures"), contents(tmp_path)
    assert committed
    assert rebuilt.keys() == committed.keys()
    assert [file for file, text in rebuilt.items() if text != committed[file]] == []


def contents(folder):
    files = (path for kind in ("csv", "tex", "svg") for path in folder.glob(f"*.{kind}"))
    return {path.name: comparable(path.read_text()) for path in files if path.stem not in DRAWN_BY_TRAINING}


def comparable(text):
    """A text without the commit, and with ids by order: they hash sizes to the last bit, as processors round them."""
    order = {}
    text = re.sub(r"(?<=at commit )\S+", "", text)
    return re.sub(r"\b[a-z][0-9a-f]{10}\b", lambda found: f"id{order.setdefault(found[0], len(order))}", text)
