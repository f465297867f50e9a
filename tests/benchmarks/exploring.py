"""Moving a slider of the explorer: python tests/benchmarks/exploring.py [--runs 100] [--records 60] [--neurons 512]

Every run has divergences of two layers, of random values that rise and fall. Each control is moved 20 times: median and
slowest, in milliseconds, from the new value to the bytes of the figure.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.paper.explorer import Explorer
from lib.parameters import Experiment
from lib.runs.folder import ARGS, DIVERGENCE, PERFORMANCES, WEIGHTS

RATES = (0.2, 0.4, 0.6, 0.8)


def make(folder: Path, count: int, records: int, neurons: int) -> None:
    """Write the folders as runs write them."""
    rng = np.random.default_rng(0)
    for i in range(count):
        rate = RATES[i % len(RATES)]
        experiment = Experiment(
            runs_folder=str(folder),
            noise_rate=rate,
            seed=i // len(RATES),
            epochs=records,
            criteria=["cnd"],
            cnd_stored_layers=["all"],
        )
        shape = np.sin(np.linspace(0, 3 + rate, records))
        scale = rng.gamma(4, 0.1, 2 * neurons)
        bits = np.abs(shape[:, None] * scale + 0.02 * rng.standard_normal((records, 2 * neurons)))
        cnd = np.quantile(bits[:, neurons:], 0.9, axis=1)
        accuracy = 0.9 - rate * (0.3 + 0.5 * np.linspace(-0.4, 1, records) ** 2) + 0.01 * rng.standard_normal(records)
        lines = [f"{record + 1},{record + 1},{accuracy[record]},{cnd[record]}" for record in range(records)]
        args = {
            "parameters": experiment.parameters(),
            "data": {"source": "random"},
            "layers": {"2": neurons, "4": neurons},
        }
        experiment.folder.mkdir(parents=True)
        (experiment.folder / ARGS).write_text(json.dumps(args))
        (experiment.folder / PERFORMANCES).write_text("\n".join(["record,epoch,test_accuracy,cnd", *lines, ""]))
        np.save(experiment.folder / DIVERGENCE, bits.astype(np.float32))
        (experiment.folder / WEIGHTS).touch()


def milliseconds(work, values) -> str:
    """Median and slowest of the work, done with each of the values."""
    taken = []
    for value in values:
        began = time.perf_counter()
        work(value)
        taken.append(1000 * (time.perf_counter() - began))
    return f"{np.median(taken):.0f} ms, slowest {max(taken):.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--records", type=int, default=60)
    parser.add_argument("--neurons", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.runs, options.records, options.neurons)
        began = time.perf_counter()
        explorer = Explorer(folder)
        print(f"opened {len(explorer.chosen)} runs in {time.perf_counter() - began:.1f} s")
        quantiles = np.linspace(0.05, 0.88, 20)
        moves = {
            explorer.window: range(1, 21),
            explorer.patience: range(11, 31),
            explorer.quantile: quantiles,
            explorer.layer: ["2", "4"] * 10,
            explorer.seeds: [explorer.seeds.options[1:], explorer.seeds.options] * 10,
        }
        for control, values in moves.items():
            move = milliseconds(lambda value, control=control: setattr(control, "value", value), values)
            print(f"moving {control.description.lower()}: {move}")
        asked = [replace(explorer.settings, quantile=quantile) for quantile in quantiles]
        stopped = {}

        def compute(settings) -> None:
            stopped[settings] = [run.stopped(settings) for run in explorer.chosen]

        def draw(settings) -> None:
            explorer.settings, explorer.outcomes = settings, stopped[settings]
            explorer.draw()

        print("computing, at another quantile:", milliseconds(compute, asked))
        print("drawing, at another quantile:", milliseconds(draw, asked))


if __name__ == "__main__":
    main()
