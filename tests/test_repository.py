"""What is stated in two places agrees."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from importlib.util import find_spec

import nbformat
import pandas as pd
import pytest
import yaml

from lib.catalogue import LABELS
from lib.parameters import ROOT
from lib.study.results import results

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
STUDY = ("paper", "trainers", "test")
PINNED = dict(pin.split("==") for extra in STUDY for pin in EXTRAS[extra] if "==" in pin)
TRAINERS = {pin.split("==")[0] for pin in EXTRAS["trainers"]}
IMPORT_NAMES = {
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "ipykernel": "IPython",
    "pypandoc_binary": "pypandoc",
    "pytorch-ignite": "ignite",
}


def test_environment_yml_takes_its_dependencies_from_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert python.removeprefix("python=") == PROJECT["requires-python"].removeprefix(">=")
    assert pip == "pip"
    assert packages == {"pip": ["--editable .[test]"]}


@pytest.mark.parametrize("name", sorted(PINNED))
def test_the_environment_is_the_one_stated(name):
    if name in TRAINERS and find_spec(IMPORT_NAMES.get(name, name)) is None:
        pytest.skip(f"{name} is not installed")
    assert importlib.metadata.version(name).split("+")[0] == PINNED[name]


def test_what_others_install_is_met_by_what_is_pinned():
    """An extra of its own for each trainer, and one for each other package that the wheel imports."""
    test = [pin for pin in EXTRAS["test"] if "==" not in pin]
    assert test == [f"{PROJECT['name']}[paper,trainers]"]
    loose = [*PROJECT["dependencies"], *(pin for name, pins in EXTRAS.items() if name not in STUDY for pin in pins)]
    for name, least in (requirement.split(">=") for requirement in loose):
        assert [int(part) for part in PINNED[name].split(".")] >= [int(part) for part in least.split(".")]


def imported_packages():
    sources = {path: path.read_text() for folder in ("lib", "tests") for path in (ROOT / folder).rglob("*.py")}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        sources[path] = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    for path, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                yield from ((path.name, alias.name.split(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield path.name, node.module.split(".")[0]


def test_every_import_is_a_stated_dependency():
    stated = (
        {IMPORT_NAMES.get(name, name) for name in PINNED}
        | {"lib", "label_memorization", "tests"}
        | set(sys.stdlib_module_names)
    )
    assert {(file, package) for file, package in imported_packages() if package not in stated} == set()


def test_targets_named_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test", "lab", "news", "report"} <= named <= targets


def test_files_named_in_the_readme_exist():
    readme = (ROOT / "README.md").read_text()
    named = re.findall(r"`((?:lib|notebooks|slurm|figures|tests)/[\w./-]+)`|\]\(([\w./-]+)\)", readme)
    paths = {first or second for first, second in named}
    assert paths
    assert [path for path in paths if not (ROOT / path).exists() and path != "figures/report.html"] == []


def test_the_readme_states_the_parameters_of_the_final_simulations():
    news = yaml.safe_load((ROOT / "slurm" / "news.yaml").read_text())["parameters"]
    row = next(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| NEWS |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:4] == [str(news["patience"]), str(news["window"]), f"{100 * news['cnd_quantile']:.0f} %"]


def test_the_findings_in_the_readme_are_those_of_the_committed_table():
    section = (ROOT / "README.md").read_text().split("## What it finds")[1].split("\n## ")[0]
    heading, _, *rows = (
        [cell.strip() for cell in line.strip("| ").split("|")] for line in section.splitlines() if "|" in line
    )
    found = pd.read_csv(ROOT / "figures" / "overall.csv").set_index("criterion")
    names = {LABELS[name]: name for name in found.index}
    told = {}
    for label, kept, *gaps in rows:
        for study, gap in zip(heading[2:], gaps, strict=True):
            column = study + {"snapshot": "", "average": ", average kept"}[kept]
            told[label, column] = float(gap.replace("−", "-")), found.loc[names[label], column]
    assert len(told) >= 12
    assert {where: pair for where, pair in told.items() if abs(pair[0] - pair[1]) > 0.0501} == {}


def test_what_was_run_and_how_often_cnd_finds_the_peak_is_what_the_logs_say():
    section = " ".join((ROOT / "README.md").read_text().split("## What it finds")[1].split("\n## ")[0].split())
    found = results("logs")
    for result in found.studies:
        seeds = result.study.runs.groupby(["noise", "noise_rate"], observed=True)["seed"].nunique()
        assert f"{result.study.title} {len(seeds)} × {seeds.min()}" in section
    own, every = (table["run"].nunique() for table in (found.own_runs, found.runs))
    assert f"{own} runs, and {every - own} for ablations and baselines" in section
    stops = pd.concat(found.stops.values())
    near = stops[(stops["gap"] <= 1) & ~stops["fallback"]]["criterion"].value_counts()
    count = (stops["criterion"] == "cnd").sum()
    assert (
        f"of the best record in {near['cnd']} of {count} runs, prediction changes in {near['prediction_changes']};"
        in section
    )
