"""Collecting many run folders into one table: python tests/benchmarks/collecting.py [--runs 10000] [--records 200]

Every folder is a finished run as a run writes it: one short run is made, and its records are repeated in all others.
The table is collected twice: from the folders, and when nothing changed.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from lib.parameters import Experiment
from lib.runs import table as runs
from lib.runs.folder import ARGS, PERFORMANCES, WEIGHTS
from lib.training import run


def make(folder: Path, count: int, records: int) -> None:
    """Write the folders."""
    finished = run(Experiment(runs_folder=str(folder / "one"), epochs=2, window=1))
    header, *lines = (finished.folder / PERFORMANCES).read_text().splitlines()
    line = lines[-1].partition(",")[2]
    text = "\n".join([header, *(f"{record},{line}" for record in range(1, records + 1))]) + "\n"
    args = json.loads((finished.folder / ARGS).read_text())
    for seed in range(count):
        experiment = Experiment(runs_folder=str(folder / "many"), epochs=records, seed=seed)
        experiment.folder.mkdir(parents=True)
        args |= {"name": experiment.name, "parameters": experiment.parameters()}
        (experiment.folder / ARGS).write_text(json.dumps(args))
        (experiment.folder / PERFORMANCES).write_text(text)
        (experiment.folder / WEIGHTS).touch()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.runs, options.records)
        for what in ("from the folders", "unchanged"):
            began = time.perf_counter()
            table = runs.load(Path(folder) / "many")
            print(f"{what}: {table['run'].nunique()} runs, {len(table)} rows in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
