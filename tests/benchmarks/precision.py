"""Images a second of training in bfloat16 on a processor without it: our products against torch's own, on one thread.

    python tests/benchmarks/precision.py

The steps of a run of `slurm/cifar10_cpu.yaml` on random images, in turn; float32 stands beside them.
"""

import time
from contextlib import nullcontext

import torch

from lib import models
from lib.parameters import Experiment
from lib.training import precision, steps

BATCH, STEPS, ROUNDS = 128, 4, 3
OURS = steps.bfloat16_products


def measured(dtype: str, products=OURS) -> float:
    """Images a second, from the second step on."""
    experiment = Experiment(network="narrow_airbench", dtype=dtype, optimizer="sgd", learning_rate=0.01)
    model = models.build(experiment, (3, 32, 32), 10).train().to(memory_format=torch.channels_last)
    step, steps.bfloat16_products = steps.Step(experiment, model), products
    x, labels = torch.randn(BATCH, 3, 32, 32).to(memory_format=torch.channels_last), torch.arange(BATCH) % 10
    step(x, labels)
    began = time.perf_counter()
    for _ in range(STEPS):
        step(x, labels)
    return BATCH * STEPS / (time.perf_counter() - began)


def main() -> None:
    """Measure all in turn and print the ratios."""
    torch.set_num_threads(1)
    if precision.has_bfloat16("cpu"):
        print("this processor has bfloat16, and a run leaves its products to it: ours is then not used")
        precision.has_bfloat16 = lambda device: False
    ratios = []
    for _ in range(ROUNDS):
        own, ours = measured("bfloat16", lambda experiment: nullcontext()), measured("bfloat16")
        single = measured("float32")
        ratios.append(ours / own)
        print(f"images/s: torch's own {own:5.0f}   ours {ours:5.0f}   float32 {single:5.0f}   ratio {ratios[-1]:.1f}")
    print(f"median ratio {sorted(ratios)[ROUNDS // 2]:.1f}")


if __name__ == "__main__":
    main()
