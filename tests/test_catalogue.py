import ast
import subprocess
import sys

import pytest

from lib.catalogue import CRITERIA, DATASETS, LABELS, LOSSES, NETWORKS, NOISES, Catalogue, Criterion, Row, noise_title
from lib.checks import ParameterError
from lib.parameters import ROOT

ROWS = [row for catalogue in (CRITERIA, DATASETS, LOSSES, NETWORKS, NOISES) for row in catalogue.values()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_names_a_function_that_is_there(row):
    assert callable(row.work)
    assert not row.own
    assert row.label


def test_criteria_can_be_told_apart():
    assert len({row.label for row in CRITERIA.values()}) == len(CRITERIA)
    assert len({(row.colour, row.marker) for row in CRITERIA.values()}) == len(CRITERIA)
    assert {row.mode for row in CRITERIA.values()} <= {"max", "min", "above_zero", "median"}
    assert {need for row in CRITERIA.values() for need in row.needs} == {
        *("layer", "probe", "validation", "average", "truth")
    }


def test_a_row_of_ones_own_holds_its_function():
    catalogue = Catalogue(Row("double", "twice", lambda value: 2 * value))
    assert catalogue["double"].own
    assert catalogue["double"](4) == 8
    catalogue.add(Row("half", "half", lambda value: value / 2))
    assert [*catalogue] == ["double", "half"]
    assert catalogue.label("half") == "half"
    assert catalogue.label("unknown") == "unknown"
    with pytest.raises(ParameterError, match="name='a/b': must be letters"):
        catalogue.add(Row("a/b", "a", len))


def test_labels_know_criteria_that_are_added_and_the_references():
    CRITERIA.add(Criterion("mine", "Mine", lambda view: 0.0, "min", "share"))
    assert LABELS["mine"] == "Mine"
    assert [*LABELS][-3:] == ["mine", "end", "oracle"]
    assert len(LABELS) == len(CRITERIA) + 2
    assert "absent" not in LABELS


@pytest.mark.parametrize(
    ("noise", "rate", "title"),
    [
        ("none", 0, "clean labels"),
        ("pair", 0.45, "pair 45%"),
        ("worse_label", 0, "CIFAR-10N worse"),
        ("x", 0.1, "x 10%"),
    ],
)
def test_titles_of_noises(noise, rate, title):
    assert noise_title(noise, rate) == title


def test_nothing_heavy_is_imported_by_it():
    heavy = {"torch", "numpy", "pandas", "numba"}
    code = f"import sys, lib.catalogue, lib.parameters; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert ast.literal_eval(told) == []
