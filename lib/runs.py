"""The run folder: written while a run goes on, whole after a crash, read back as one tidy table.

| file | what it holds |
| --- | --- |
| `args.json` | every parameter, versions, commit, device, data source, realised noise |
| `performances.csv` | a line a record, appended as it is made |
| `divergence.npy` | CND of every neuron, float32, shape (records, neurons); NaN where not yet recorded |
| `run.log` | what happened when, seconds an epoch |
| `weights.pt` | final weights; written last, so its presence marks the end |
| `<notebook>.ipynb` | the executed notebook, where papermill ran it |
"""

import json
import logging
import os
import platform
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from lib.data import Dataset
from lib.parameters import ROOT, Experiment, ParameterError
from lib.samples import Samples
from lib.signals import Measurement

ARGS, PERFORMANCES, DIVERGENCE, LOG, WEIGHTS = (
    "args.json",
    "performances.csv",
    "divergence.npy",
    "run.log",
    "weights.pt",
)
_log = logging.getLogger("lib")


@dataclass(frozen=True)
class Run:
    """A finished run."""

    experiment: Experiment
    folder: Path

    @classmethod
    def find(cls, experiment: Experiment) -> "Run | None":
        """The finished run of an experiment, or None. Raises FileExistsError if its folder holds another one."""
        folder = experiment.folder
        try:
            stored = Experiment.read(folder / ARGS)
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        except (ParameterError, KeyError) as error:
            raise FileExistsError(f"{folder}: holds a run of another version of this code ({error})") from error
        if not stored.same_run(experiment):
            raise FileExistsError(f"{folder}: holds a run of other parameters; remove it or name another runs_folder")
        return cls(experiment, folder) if unfinished(folder) is None else None

    @property
    def performances(self) -> pd.DataFrame:
        """A row a record: record, epoch, and every signal; see `lib.signals.Recorder` for the columns."""
        return read_performances(self.folder)

    @property
    def divergence(self) -> np.ndarray:
        """CND in bits, shape (records, neurons). Raises FileNotFoundError where it was not recorded."""
        return np.load(self.folder / DIVERGENCE)

    @property
    def table(self) -> pd.DataFrame:
        """`performances` as `load` gives them, with the run's name, parameters and data source in every row."""
        return _table(self.folder)

    def weights(self) -> dict[str, torch.Tensor]:
        """Final weights, for `load_state_dict`."""
        return torch.load(self.folder / WEIGHTS, weights_only=True)


class RunWriter:
    """Writes one run's folder; use it in a `with` statement. What an earlier, unfinished run left is replaced."""

    def __init__(self, experiment: Experiment, dataset: Dataset, samples: Samples):
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
        }
        self._records = 0
        self._divergence: np.memmap | None = None

    def __enter__(self) -> "RunWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
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
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    name = platform.processor() or platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "commit": commit or None,
        "device": name if device == "cpu" else torch.cuda.get_device_name(device),
    }


def read_performances(folder: Path) -> pd.DataFrame:
    """The records of a run folder; a last line that a crash cut short is left out."""
    text = (Path(folder) / PERFORMANCES).read_text()
    header, *lines = text[: text.rfind("\n") + 1].splitlines() or ["record,epoch"]
    columns = header.split(",")
    rows = [[float(value) for value in line.split(",")] for line in lines]
    return pd.DataFrame(rows, columns=columns).astype({"record": int})


def unfinished(folder: Path) -> str | None:
    """Why a run folder holds no finished run; None where it does."""
    folder = Path(folder)
    try:
        parameters = json.loads((folder / ARGS).read_text())["parameters"]
        expected = parameters["epochs"] * parameters["records_per_epoch"]
        recorded = len(read_performances(folder)) if (folder / PERFORMANCES).exists() else 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"broken: {type(error).__name__}: {error}"
    if recorded != expected:
        return f"unfinished: {recorded} of {expected} records"
    return None if (folder / WEIGHTS).exists() else f"unfinished: no {WEIGHTS}"


def load(folder: Path | str) -> pd.DataFrame:
    """All finished runs below a folder as one tidy table.

    Args:
        folder: holds one run folder a run, such as `runs`; relative paths start at the project root.

    Returns:
        A row a record of each run: `run` (its name), every parameter, `source` of its data, `record`, `epoch` and
        the signals. Folders that are broken or unfinished are skipped with a warning each, and listed with the
        reason in `.attrs["skipped"]`. Without any run the table is empty.
    """
    tables, skipped = [], {}
    for args in sorted((ROOT / folder).glob(f"*/{ARGS}")):
        reason = unfinished(args.parent)
        if reason is not None:
            skipped[args.parent.name] = reason
            warnings.warn(f"run {args.parent.name} skipped: {reason}", stacklevel=2)
            continue
        tables.append(_table(args.parent))
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["run", "record", "epoch"])
    table.attrs["skipped"] = skipped
    return table


def _table(folder: Path) -> pd.DataFrame:
    description = json.loads((folder / ARGS).read_text())
    constant = {"run": folder.name, **description["parameters"], "source": description["data"]["source"]}
    constant["criteria"] = ",".join(constant["criteria"])
    performances = read_performances(folder)
    leading = pd.DataFrame(constant, index=performances.index)
    return pd.concat([leading, performances], axis=1)


def _write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name and rename it, so that nobody ever sees half of it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
