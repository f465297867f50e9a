"""Histogram divergence against the published formula, in one process: python tests/benchmarks/cnd.py

The published formula compares every value with every bin edge, class by class. It, the divergence and summing all
values twice are timed in turn, round by round, so that they meet the same machine; ratios are medians over rounds. The
values are those of another copy each time, so that they come from memory and not from the cache.
"""

import argparse
import itertools
import math
import statistics
import time

import torch

from lib.cnd import neuron_divergence


def published(z: torch.Tensor, y: torch.Tensor, num_classes: int, bins: int = 40) -> torch.Tensor:
    """Divergence in bits by comparing values with bin edges; the last bin takes the maximum."""
    low, high = z.amin(dim=0), z.amax(dim=0)
    edges = low[:, None] + (high - low)[:, None] * torch.linspace(0, 1, bins + 1)
    edges[:, -1] = math.inf
    densities = []
    for label in range(num_classes):
        values = z[y == label][:, :, None]
        counts = ((values >= edges[:, :-1]) & (values < edges[:, 1:])).sum(dim=0)
        densities.append(counts / counts.sum(dim=1, keepdim=True))
    p = torch.stack(densities).double()

    def entropy(q):
        return -torch.special.xlogy(q, q).sum(dim=-1) / math.log(2)

    return entropy(p.mean(dim=0)) - entropy(p).mean(dim=0)


def seconds(function, *arguments) -> float:
    time.sleep(0.1)  # threads of what was timed before wait busily for a while
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--neurons", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(options.samples, options.neurons, generator=generator)
    y = torch.randint(options.classes, (options.samples,), generator=generator)
    difference = (neuron_divergence(z, y, options.classes) - published(z, y, options.classes)).abs().max()
    copies = itertools.cycle([z.clone() for _ in range(8)])
    rounds = [
        (
            seconds(published, next(copies), y, options.classes),
            seconds(neuron_divergence, next(copies), y, options.classes),
            seconds(torch.sum, next(copies)) + seconds(torch.sum, next(copies)),
        )
        for _ in range(options.rounds)
    ]
    slow, fast, reading = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio, readings = statistics.median(a / b for a, b, _ in rounds), statistics.median(b / c for _, b, c in rounds)
    print(f"{options.samples} samples x {options.neurons} neurons x {options.classes} classes, 40 bins,")
    print(f"{torch.get_num_threads()} threads, largest difference {difference:.1e} bits")
    print(f"published formula {slow * 1000:.0f} ms, neuron_divergence {fast * 1000:.1f} ms, ratio {ratio:.0f}")
    print(f"reading twice {reading * 1000:.1f} ms, the divergence takes {readings:.1f} times as long")


if __name__ == "__main__":
    main()
