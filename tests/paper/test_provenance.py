import json
import os
import subprocess

import pandas as pd
import pytest

from lib.paper import provenance
from lib.paper.provenance import Provenance
from lib.runs import checkout

RUNS = pd.DataFrame(
    {
        "run": ["b", "a", "a"],
        "source": ["digits", "digits", "more digits"],
        "noise": "instance",
        "noise_rate": 0.2,
        "realised_noise_rate": [0.21, 0.23, 0.23],
    }
)


def test_of_runs_names_notebook_commit_runs_and_data(monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda: "abc-dirty")
    one = Provenance.of("summary", RUNS)
    assert one == Provenance(
        "notebooks/summary.ipynb", "abc-dirty", ("a", "b"), "digits; more digits; realised noise: instance 20% 22.3%"
    )
    assert one.text().startswith("Made by notebooks/summary.ipynb at commit abc-dirty from 2 runs (a, b). digits; ")


def test_a_rate_that_nobody_knows_is_not_told():
    unknown = RUNS.assign(noise="unknown", noise_rate=0, realised_noise_rate=float("nan"))
    assert provenance.sources(unknown) == "digits; more digits"


def test_without_git_and_without_runs(monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda: None)
    assert Provenance.of_data("idea", "digits").text() == "Made by notebooks/idea.ipynb at commit unknown. digits."


def test_the_commit_is_that_of_the_checkout():
    commit = checkout.commit()
    assert commit is None or len(commit.removesuffix("-dirty")) == 40


def test_a_folder_tells_where_all_of_it_is_from(tmp_path):
    one, other = Provenance("n", "c", ("a",), "s"), Provenance("m", "c", (), "s")
    provenance.write({"figure": one}, "first", tmp_path)
    path = provenance.write({"table": other}, "second", tmp_path)
    assert provenance.read(tmp_path) == {"figure": one, "table": other}
    assert json.loads(path.read_text())["table"]["runs"] == []
    assert provenance.read(tmp_path / "nowhere") == {}


def test_what_a_notebook_made_before_is_forgotten(tmp_path):
    one, other = Provenance("n", "c", ("a",), "s"), Provenance("n", "d", (), "s")
    provenance.write({"gone": one, "kept": one}, "n", tmp_path)
    provenance.write({"kept": other}, "n", tmp_path)
    assert provenance.read(tmp_path) == {"kept": other}
    assert [path.name for path in tmp_path.iterdir()] == ["provenance_n.json"]


def test_two_notebooks_cannot_have_made_the_same(tmp_path):
    provenance.write({"figure": Provenance("notebooks/n.ipynb", "c", (), "s")}, "n", tmp_path)
    provenance.write({"figure": Provenance("notebooks/m.ipynb", "c", (), "s")}, "m", tmp_path)
    with pytest.raises(ValueError, match=r"provenance_n\.json: 'figure' is from notebooks/m\.ipynb too"):
        provenance.read(tmp_path)


def test_a_checkout_that_was_copied_is_not_changed(tmp_path, monkeypatch):
    def git(*arguments):
        about = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *about, *arguments], check=True, capture_output=True)

    file = tmp_path / "code.py"
    file.write_text("1\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    os.utime(file, (1, 1))
    assert not checkout.commit.__wrapped__().endswith("-dirty")
    file.write_text("2\n")
    assert checkout.commit.__wrapped__().endswith("-dirty")
