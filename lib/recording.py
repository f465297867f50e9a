"""Writing a run folder while the run goes on; `lib.runs` says what lies in it, and reads it back."""

import fcntl
import json
import logging
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.dataset import Dataset
from lib.parameters import ROOT, Experiment
from lib.runs import ARGS, DIVERGENCE, LOG, PERFORMANCES, WEIGHTS, Run
from lib.samples import Samples
from lib.signals import Measurement

_log = logging.getLogger("lib")
_LOCK = "run.lock"


class RunWriter:
    """Writes one run's folder; use it in a `with` statement. What an earlier, unfinished run left is replaced.

    Args:
        experiment, dataset, samples: what is run.
        layers: neurons of each layer whose divergences are recorded, in their order.
        own: what tells another version of the user's own data and code, see `lib.runs.Run.own`.

    Raises FileExistsError on entering where another process is writing the same run.
    """

    def __init__(
        self, experiment: Experiment, dataset: Dataset, samples: Samples, layers: dict[str, int], own: dict[str, str]
    ):
        self.experiment, self.folder = experiment, experiment.folder
        self._args = {
            "name": experiment.name,
            "parameters": experiment.parameters(),
            "environment": environment(experiment.device),
            "data": {
                "source": dataset.source,
                "classes": list(dataset.classes),
                "train_samples": len(samples.train),
                "test_samples": len(dataset.y_test),
                "realised_noise_rate": samples.train.corrupted.double().mean().item(),
            },
            "layers": layers,
            "own": own,
        }
        self._records = 0
        self._divergence: np.memmap | None = None

    def __enter__(self) -> "RunWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / _LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when a process dies
        except OSError as error:
            self._lock.close()
            raise FileExistsError(f"{self.folder}: is being written by another process") from error
        for name in (WEIGHTS, PERFORMANCES, DIVERGENCE, LOG, ARGS):
            (self.folder / name).unlink(missing_ok=True)
        _write_whole(self.folder / ARGS, lambda part: part.write_text(json.dumps(self._args, indent=2) + "\n"))
        self._handler = logging.FileHandler(self.folder / LOG)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        _log.setLevel(logging.INFO)
        _log.addHandler(self._handler)
        _log.info("start %s", self.experiment.name)
        return self

    def __exit__(self, kind, error, _traceback) -> None:
        if error is not None:
            _log.error("stopped after record %d: %s: %s", self._records, kind.__name__, error)
        _log.removeHandler(self._handler)
        self._handler.close()
        (self.folder / _LOCK).unlink(missing_ok=True)
        self._lock.close()

    def write(self, epoch: float, measurement: Measurement) -> None:
        """Append a record; epoch is the number of passes made, a fraction within an epoch."""
        if measurement.divergence is not None:
            if self._divergence is None:
                shape = (self.experiment.records, len(measurement.divergence))
                self._divergence = np.lib.format.open_memmap(self.folder / DIVERGENCE, "w+", np.float32, shape)
                self._divergence[:] = np.nan
            self._divergence[self._records] = measurement.divergence
            self._divergence.flush()
        self._records += 1
        row = {"record": self._records, "epoch": epoch, **measurement.values}
        lines = [",".join(row)] if self._records == 1 else []
        lines.append(",".join(repr(value) for value in row.values()))
        with (self.folder / PERFORMANCES).open("a") as file:
            file.write("\n".join(lines) + "\n")
        _log.info("record %d: %s", self._records, " ".join(f"{k}={v:.4g}" for k, v in measurement.values.items()))

    def finish(self, model: nn.Module) -> Run:
        """Store the final weights, which marks the run as finished."""
        _write_whole(self.folder / WEIGHTS, lambda part: torch.save(model.state_dict(), part))
        _log.info("finished")
        return Run(self.experiment, self.folder)


def environment(device: str) -> dict[str, str | None]:
    """Versions, commit and device that a result depends on."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git on this machine
        commit = ""
    name = platform.processor() or platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "commit": commit or None,
        "device": name if device == "cpu" else torch.cuda.get_device_name(device),
    }


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name and rename it, so that nobody ever sees half of it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
