"""Images a second: training as `lib` does it, against a DataLoader with PIL transforms, in one process.

    python tests/benchmarks/training.py [--data data]

The same small CNN and optimizer on CIFAR-10 images with crop and flip. The reference decodes nothing, but crops, flips,
converts and normalises PIL images in two worker processes, and trains in float32. Ours is the run's own loop: uint8 in
memory, whole batches on the device, channels_last, and bfloat16 where the processor has it.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from lib import data, models
from lib.data import samples
from lib.data.dataset import Dataset, from_arrays
from lib.data.vision import VISION
from lib.parameters import ROOT, Experiment
from lib.torchvision_operators import declare
from lib.training import precision, steps

declare()
from torchvision import transforms  # noqa: E402

IMAGES, BATCH, ROUNDS = 10_000, 128, 3
DTYPE = "bfloat16" if precision.has_bfloat16("cpu") else "float32"
SETTINGS = {"dataset": "cifar10", "network": "small_cnn", "batch_size": BATCH, "learning_rate": 0.01, "momentum": 0.9}
SETTINGS |= {"augmentation": "crop_flip", "threads": torch.get_num_threads(), "train_samples": IMAGES}


class Pictures(torch.utils.data.Dataset):
    """CIFAR-10 as most code reads it: a PIL image at a time."""

    def __init__(self, dataset: Dataset):
        self.images, self.labels = dataset.x_train.stored.numpy(), dataset.y_train.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(VISION["cifar10"].mean, VISION["cifar10"].std),
            ]
        )

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return self.transform(Image.fromarray(self.images[row])), self.labels[row]


def reference(dataset: Dataset) -> float:
    """Images a second, from the second batch on, when the workers have started."""
    experiment = Experiment(**SETTINGS)
    model = models.build(experiment, (3, 32, 32), 10).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=experiment.learning_rate, momentum=experiment.momentum)
    loader = torch.utils.data.DataLoader(Pictures(dataset), BATCH, shuffle=True, num_workers=2)
    batches = iter(loader)
    next(batches)
    began, count = time.perf_counter(), 0
    for x, labels in batches:
        optimizer.zero_grad()
        cross_entropy(model(x), labels).backward()
        optimizer.step()
        count += len(labels)
    return count / (time.perf_counter() - began)


def ours(dataset: Dataset) -> float:
    """Images a second of the training loop of a run."""
    experiment = Experiment(dtype=DTYPE, memory_format="channels_last", criteria=(), **SETTINGS)
    dataset = dataset.to("cpu", channels_last=True)
    drawn = samples.draw(experiment, dataset)
    model = models.build(experiment, (3, 32, 32), 10).train()
    step = steps.Step(experiment, model)
    began, count = time.perf_counter(), 0
    for x, labels, _ in steps.batches(experiment, dataset, drawn, epoch=1):
        step(x, labels)
        count += len(labels)
    return count / (time.perf_counter() - began)


def images(folder: str) -> Dataset:
    """CIFAR-10 where it is in the data folder, else random images: the time is the same."""
    if (ROOT / folder / "cifar10.npz").exists():
        return data.load(Experiment(data_folder=folder, **SETTINGS))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8), np.arange(IMAGES) % 10
    arrays = {"x_train": x, "y_train": y, "x_test": x[:100], "y_test": y[:100], "source": np.array("random images")}
    return from_arrays(arrays, "random")


def main() -> None:
    """Measure both in turn and print the ratios; the exit status is 1 where the median is below 3."""
    parser = argparse.ArgumentParser(description="Images a second against a DataLoader with PIL transforms.")
    parser.add_argument("--data", default="data", help="data folder (default data)")
    dataset = images(str(Path(parser.parse_args().data)))
    print(f"{dataset.source}; {torch.get_num_threads()} threads, ours in {DTYPE}")
    ours(dataset)  # warm up
    ratios = []
    for _ in range(ROUNDS):
        slow, fast = reference(dataset), ours(dataset)
        ratios.append(fast / slow)
        print(f"DataLoader and PIL {slow:6.0f} images/s   ours {fast:6.0f} images/s   ratio {ratios[-1]:.1f}")
    median = sorted(ratios)[ROUNDS // 2]
    print(f"median ratio {median:.1f}")
    sys.exit(median < 3)


if __name__ == "__main__":
    main()
