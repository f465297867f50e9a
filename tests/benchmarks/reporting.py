"""Tables, figures and report of many runs: python tests/benchmarks/reporting.py [--runs 1000] [--records 60]

One short run is made; its records are repeated with noise in all others: five networks, ten kinds and rates of noise,
and as many seeds as it takes. The report is built from nothing, as `make report` does.
"""

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from lib.paper import report
from lib.parameters import Experiment
from lib.runs.folder import ARGS, DIVERGENCE, PERFORMANCES, WEIGHTS
from lib.training import run

NETWORKS = ["mlp", "small_cnn", "lenet", "preact_resnet9", "preact_resnet18"]
NOISES = [
    ("none", 0.0),
    *(("symmetric", rate) for rate in (0.2, 0.4, 0.6, 0.8, 0.9)),
    *itertools.product(("pair", "instance"), (0.2, 0.4)),
]
NEURONS = 512


def make(folder: Path, count: int, records: int) -> None:
    """Write the folders."""
    finished = run(Experiment(runs_folder=str(folder / "one"), epochs=2, window=1))
    performances, args = finished.performances, json.loads((finished.folder / ARGS).read_text())
    rng = np.random.default_rng(0)
    rise = np.sin(np.linspace(0.3, 3, records))
    seeds = range(-(-count // (len(NETWORKS) * len(NOISES))))
    for seed, network, (noise, rate) in itertools.islice(itertools.product(seeds, NETWORKS, NOISES), count):
        values = {name: 0.6 * rise + 0.05 * rng.normal(size=records) for name in performances.columns}
        values |= {"record": np.arange(1, records + 1), "epoch": np.arange(1, records + 1)}
        lines = [",".join(map(repr, row)) for row in zip(*(v.tolist() for v in values.values()), strict=True)]
        parameters = {"network": network, "noise": noise, "noise_rate": rate, "seed": seed, "epochs": records}
        experiment = Experiment(runs_folder=str(folder / "many"), **parameters)
        experiment.folder.mkdir(parents=True)
        args |= {"name": experiment.name, "parameters": experiment.parameters(), "layers": {"4": NEURONS}}
        (experiment.folder / ARGS).write_text(json.dumps(args))
        (experiment.folder / PERFORMANCES).write_text("\n".join([",".join(values), *lines]) + "\n")
        bits = rise[:, None] + rng.random((records, NEURONS), dtype=np.float32)
        np.save(experiment.folder / DIVERGENCE, bits.astype(np.float32))
        (experiment.folder / WEIGHTS).touch()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--records", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.runs, options.records)
        began = time.perf_counter()
        report.build(f"{folder}/many", f"{folder}/figures")
        print(f"{options.runs} runs: report in {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
