"""A grid of runs from one readable file, each run its notebook executed headless by papermill.

    python -m lib.grid slurm/demo.yaml --processes 2

A grid file names the notebook, parameters of every run, and settings; a list of values stands for one run each, and
all combinations are run:

    notebook: digits
    parameters: {epochs: 60, seed: [0, 1, 2]}
    settings:
      - {noise: symmetric, noise_rate: [0.2, 0.4]}
      - {noise: pair, noise_rate: 0.4}

What a grid file does not name has the default of `lib.parameters.Experiment`. Finished runs are not run again; an
interrupted grid goes on with the same command.
"""

import argparse
import itertools
import logging
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import papermill
import yaml
from tqdm import tqdm

from lib.checks import ParameterError, check_choice
from lib.parameters import ROOT, Experiment
from lib.run_folder import PERFORMANCES, Run

NOTEBOOKS = ROOT / "notebooks"
# Parameters whose value is itself a list.
_LISTS = {name for name, field in Experiment.__dataclass_fields__.items() if isinstance(field.default, tuple)}


@dataclass(frozen=True)
class Grid:
    """Experiments and the notebook that runs each of them."""

    notebook: Path
    experiments: tuple[Experiment, ...]

    @classmethod
    def read(cls, file: Path | str, **overrides: Any) -> "Grid":
        """Read and check a grid file; overrides hold for every run. Raises ParameterError."""
        try:
            content = yaml.safe_load(Path(file).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            why = " ".join(str(error).split())
            raise ParameterError(f"grid={str(file)!r}: must be a readable YAML file: {why}") from error
        if not isinstance(content, dict):
            raise ParameterError(f"grid={str(file)!r}: must name notebook, parameters and settings")
        for key in content:
            check_choice("key of the grid", str(key), ["notebook", "parameters", "settings"])
        names = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
        check_choice("notebook", content.get("notebook"), names)
        common = content.get("parameters") or {}
        settings = content.get("settings") or [{}]
        if not (isinstance(common, dict) and isinstance(settings, list) and all(isinstance(s, dict) for s in settings)):
            raise ParameterError(f"grid={str(file)!r}: parameters must be names and values, settings a list of such")
        expanded = (
            Experiment.from_dict(combination)
            for setting in settings
            for combination in _combinations(common | setting | overrides)
        )
        experiments = {experiment.name: experiment for experiment in expanded}
        return cls(NOTEBOOKS / f"{content['notebook']}.ipynb", tuple(experiments.values()))

    def missing(self) -> list[Experiment]:
        """The experiments without a finished run."""
        return [experiment for experiment in self.experiments if Run.find(experiment) is None]


def _combinations(parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    values = []
    for name, value in parameters.items():
        if value == [] and name not in _LISTS:
            raise ParameterError(f"{name}=[]: must be a value or a list of at least one")
        values.append(value if isinstance(value, list) and name not in _LISTS else [value])
    for combination in itertools.product(*values):
        yield dict(zip(parameters, combination, strict=True))


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> str | None:
    """Execute a notebook by papermill; the executed notebook is `output`. Returns None, or what went wrong.

    The working folder stays that of the caller, as papermill would change it for all threads of the process; paths in
    notebooks start at the project root.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            notebook,
            output,
            parameters=parameters,
            progress_bar=False,
            kernel_name="python3",
            extra_arguments=["--log-level=CRITICAL"],
            shutdown_kernel="immediate",  # what matters is on disk by then
        )
    except papermill.PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except Exception as error:  # a dead kernel must not take the other runs with it
        return f"{type(error).__name__}: {error}"
    return None


def execute_run(notebook: Path, experiment: Experiment) -> str | None:
    """Execute an experiment's notebook into its run folder. Returns None, or what went wrong."""
    parameters = {name: list(v) if isinstance(v, tuple) else v for name, v in experiment.parameters().items()}
    return execute(notebook, experiment.folder / notebook.name, parameters)


def run(grid: Grid, processes: int) -> dict[str, str]:
    """Run what is missing of a grid, several runs at a time, with a progress bar over their records.

    Returns:
        What went wrong with each run that failed, by its name; the others are finished.
    """
    missing = grid.missing()
    print(f"{len(grid.experiments) - len(missing)} of {len(grid.experiments)} runs are there, {len(missing)} to run")
    if not missing:
        return {}
    failures: dict[str, str] = {}
    waiting, running = deque(missing), {}
    # New processes, not forks: a fork would inherit threads of torch that do not survive it.
    with (
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
        tqdm(total=sum(experiment.records for experiment in missing), unit="record") as bar,
    ):
        ended = records = 0
        while waiting or running:
            # Handed out one by one: after Ctrl-C ends the notebooks, none may follow.
            while waiting and len(running) < processes:
                experiment = waiting.popleft()
                running[pool.submit(execute_run, grid.notebook, experiment)] = experiment
            done, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                experiment = running.pop(future)
                ended, records = ended + 1, records + experiment.records
                if failure := future.exception() or future.result():
                    failures[experiment.name] = str(failure)
            bar.set_postfix_str(f"{ended} of {len(missing)} runs", refresh=False)
            bar.n = records + sum(_lines(experiment) for experiment in running.values())
            bar.refresh()
    return failures


def _lines(experiment: Experiment) -> int:
    path = experiment.folder / PERFORMANCES
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 1 where a run failed, 2 for wrong parameters, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m lib.grid", description="Run the missing runs of a grid.")
    parser.add_argument("grid", help="grid file, such as slurm/demo.yaml")
    parser.add_argument("--processes", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--data", help="data folder (default: what the grid file says)")
    parser.add_argument("--runs", help="runs folder (default: what the grid file says)")
    parser.add_argument("--dry-run", action="store_true", help="only list the runs")
    options = parser.parse_args(arguments)
    places = {"data_folder": options.data, "runs_folder": options.runs}
    try:
        if options.processes < 1:
            raise ParameterError(f"processes={options.processes}: must be an integer of at least 1")
        grid = Grid.read(options.grid, **{name: place for name, place in places.items() if place})
        if options.dry_run:
            missing = set(grid.missing())
            for experiment in grid.experiments:
                print("missing " if experiment in missing else "finished", experiment.name)
            return 0
        failures = run(grid, options.processes)
    except (ParameterError, FileExistsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; finished runs are kept, the same command goes on", file=sys.stderr)
        return 130
    for name, failure in failures.items():
        print(f"failed {name}: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
