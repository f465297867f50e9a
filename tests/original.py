"""Results as the described original writes them: a folder with `args.json` and a pickled object."""

import json
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import torch

RESULTS, KIND = "performances.pkl", "performances.Performances"
EPOCHS, TRAIN = 12, 50
ARGUMENTS = {
    "dataset": "CIFAR10",
    "seed": 3,
    "lr": 0.01,
    "batch_size": 128,
    "epochs": EPOCHS,
    "network": "PreActResNet18",
    "num_classes": 10,
    "noise_type": "label_noise",
    "symmetric_label_noise_ratio": 0.4,
    "corrupted_samples": list(range(0, 40, 2)),
    "not_corrupted_samples": list(range(1, 40, 2)) + list(range(40, TRAIN)),
    "metrics": ["CND", "PC"],
    "CND_type": ["PMF", "KNN"],
    "neurs_x_hid_lyr": {"layer4": 6, "linear": 4},
}
TEST_ACCURACY = [0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5]
CHANGES = [20, 15, 10, 8, 6, 4, 5, 6, 7, 8, 9]
CND = np.random.default_rng(0).random((2, EPOCHS, 10), dtype=np.float32)


def attributes() -> dict:
    """What a run records: lists, lists of scalars and tensors, tensors, arrays; what it does not, as lists of None."""
    nothing = [None] * EPOCHS
    return {
        "train_loss": [2.0 - 0.1 * epoch for epoch in range(EPOCHS)],
        "train_acc": [np.float64(0.05 * epoch) for epoch in range(EPOCHS)],
        "test_acc": torch.tensor(TEST_ACCURACY),
        "misslab_acc": [torch.tensor(0.01 * epoch) for epoch in range(EPOCHS)],
        "known_polluted_accuracy": np.linspace(0, 0.5, EPOCHS),
        "known_polluted_accuracy_loglik": nothing,
        "PC": list(CHANGES),
        "LS": nothing,
        "CSR": nothing,
        "CGE": nothing,
        "CND": torch.from_numpy(CND.copy()),
    }


def pickled(values: dict | None = None, protocol: int = 4) -> bytes:
    """An instance of the original's class with these attributes; the module of the class is here for no longer."""
    module = types.ModuleType("performances")
    module.Performances = type("Performances", (), {"__module__": "performances"})
    instance = module.Performances()
    instance.__dict__.update(attributes() if values is None else values)
    sys.modules["performances"] = module
    try:
        return pickle.dumps(instance, protocol)
    finally:
        del sys.modules["performances"]


def write(folder: Path, arguments: dict | None = None, content: bytes | None = None, **changes) -> Path:
    """Write a folder of results.

    Args:
        folder: to write.
        arguments: those that differ; `...` takes one out.
        content: of the pickle; None: an instance.
        changes: attributes that differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = {name: value for name, value in (ARGUMENTS | (arguments or {})).items() if value is not ...}
    (folder / "args.json").write_text(json.dumps(given))
    (folder / RESULTS).write_bytes(pickled(attributes() | changes) if content is None else content)
    return folder
