"""The rooms of the house: imports run downward only, tests mirror them, and no room is a drawer."""

import ast
from pathlib import Path

import pytest

from lib.parameters import ROOT

LIB = ROOT / "lib"
MAY_IMPORT = {
    "science": set(),
    "loops": {"science"},
    "data": {"science"},
    "runs": {"science"},
    "training": {"science", "data", "runs"},
    "grid": {"science", "data", "runs"},
    "study": {"science", "runs"},
    "paper": {"science", "data", "runs", "grid", "study"},
    "legacy": {"science", "runs"},
}
COMMAND = LIB / "__main__.py"
MODULES = sorted(path for path in LIB.rglob("*.py") if path != COMMAND)


def room(path: Path) -> str:
    return "science" if path.parent == LIB else path.parent.name


def imported(path: Path) -> set[str]:
    """Rooms from which a module imports, whatever the form of the import."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            package = ["lib", *path.relative_to(LIB).parts[:-1]]
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names if name.split(".")[0] == "lib"]
        found |= {part[1] if len(part) > 1 and (LIB / part[1]).is_dir() else "science" for part in parts}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIB)))
def test_imports_run_downward_only(path):
    assert imported(path) <= MAY_IMPORT[room(path)] | {room(path)}


def test_every_room_is_known():
    assert {room(path) for path in MODULES} == set(MAY_IMPORT)


def test_tests_mirror_the_rooms():
    rooms = {path.name for path in LIB.iterdir() if (path / "__init__.py").exists()}
    assert rooms <= {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LIB)))
def test_a_module_of_more_than_400_lines_is_asked_whether_it_is_one_idea(path):
    assert len(path.read_text().splitlines()) <= 400
