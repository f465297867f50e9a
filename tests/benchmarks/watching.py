"""What watching costs of an epoch, in one process: python -m tests.benchmarks.watching [--data data]

`narrow_airbench` on CIFAR-10 images at batch 128, fed from memory and by a `DataLoader` with PIL transforms; without
anything, with a `Watcher`, and with a `Stopper`, which also keeps the average of the weights and asks it on one batch
in sixteen. Epochs of each are timed in turn, so that they meet the same machine, with all that happens at their end;
what is stated is the median over rounds of the ratio to the plain epoch of the same round.
"""

import argparse
import statistics
import sys
import time
from contextlib import nullcontext

import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Subset

from lib import models
from lib.batches import Indexed
from lib.loops import Stopper, watch
from tests.benchmarks.training import BATCH, Pictures, images

LIMITS = {"memory": 0.10, "DataLoader": 0.03}


def epoch(model, optimizer, batches, watched) -> float:
    """Seconds of an epoch."""
    began = time.perf_counter()
    with watched or nullcontext():
        for x, labels, index in batches:
            optimizer.zero_grad()
            logits = model(x)
            cross_entropy(logits, labels).backward()
            optimizer.step()
            if isinstance(watched, Stopper):
                watched.step(index, labels, logits)
            elif watched:
                watched.update(index, logits, labels)
    if isinstance(watched, Stopper):
        watched.end_epoch()
    elif watched:
        watched.compute()
    return time.perf_counter() - began


def from_memory(dataset, count: int):
    """Batches of normalised images that are in memory, shuffled."""
    x, labels = dataset.x_train[torch.arange(count)], dataset.y_train[:count]
    return lambda: ((x[rows], labels[rows], rows) for rows in torch.randperm(count).split(BATCH))


def main() -> None:
    """Print the shares; the exit status is 1 where the watcher's is above its limit."""
    parser = argparse.ArgumentParser(description="What watching costs of an epoch.")
    parser.add_argument("--data", default="data", help="data folder (default data)")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    dataset, failed = images(options.data), False
    count = min(options.images, len(dataset.y_train))
    pictures = Indexed(Subset(Pictures(dataset), range(count)))
    loader = DataLoader(pictures, BATCH, shuffle=True, num_workers=2)
    for fed, limit in LIMITS.items():
        batches = from_memory(dataset, count) if fed == "memory" else loader.__iter__
        seconds: dict[str, list[float]] = {"nothing": [], "watcher": [], "stopper": []}
        trainings = {}
        for way in seconds:
            model = models.narrow_airbench((3, 32, 32), 10).train()
            watched = {"nothing": None, "watcher": watch(model, 10), "stopper": Stopper(model, 10)}[way]
            trainings[way] = model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), watched
        for turn in range(options.rounds + 1):
            for way, (model, optimizer, watched) in trainings.items():
                took = epoch(model, optimizer, batches(), watched)
                if turn:  # the first round warms up
                    seconds[way].append(took)
        shares = {
            way: statistics.median(a / b - 1 for a, b in zip(took, seconds["nothing"], strict=True))
            for way, took in seconds.items()
        }
        plain = statistics.median(seconds["nothing"])
        failed |= shares["watcher"] > limit
        print(f"fed by {fed}: plain epoch of {count} images {plain:.1f} s, {torch.get_num_threads()} threads")
        print(f"  watcher {shares['watcher']:+.1%} (at most {limit:.0%}), stopper {shares['stopper']:+.1%}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
