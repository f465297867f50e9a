"""What a command waits for before it begins."""

import subprocess
import sys

from lib.parameters import ROOT


def loaded_by(code):
    """Names of the modules that a process of its own holds after some code."""
    told = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(told.stdout.split())


def test_a_grid_is_read_and_begun_without_libraries_that_only_its_runs_need():
    loaded = loaded_by("from lib import __main__\nfrom lib.grid import pool, slurm, status")
    assert "lib.grid.execution" in loaded
    assert not loaded & {"torch", "papermill", "nbformat", "nbconvert", "scipy", "matplotlib"}


def test_notebooks_are_executed_without_a_grammar_that_takes_seconds_to_compile():
    loaded = loaded_by("from lib.grid.execution import _papermill\n_papermill()")
    assert {"papermill", "nbformat", "jsonschema"} <= loaded
    assert "rfc3987_syntax" not in loaded  # nor is it hidden from those who import it later
