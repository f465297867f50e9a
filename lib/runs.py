"""The run folder, read back as one tidy table; `lib.recording` writes it.

| file | what it holds |
| --- | --- |
| `args.json` | every parameter, versions, commit, device, data source, realised noise, recorded layers |
| `performances.csv` | a line a record, appended as it is made |
| `divergence.npy` | CND of every neuron, float32, shape (records, neurons); NaN where not yet recorded |
| `run.log` | what happened when, seconds an epoch |
| `weights.pt` | final weights; written last, so its presence marks the end |
| `<notebook>.ipynb` | the executed notebook, where papermill ran it |
"""

import hashlib
import itertools
import json
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.checks import ParameterError
from lib.parameters import ROOT, Experiment, dataset_label

ARGS, PERFORMANCES, DIVERGENCE, LOG, WEIGHTS = (
    "args.json",
    "performances.csv",
    "divergence.npy",
    "run.log",
    "weights.pt",
)
_OWN_FILES = {ARGS, PERFORMANCES, DIVERGENCE, LOG, WEIGHTS}
# What reading a damaged file of a run may raise.
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)


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
        except FileNotFoundError:
            return None
        except ParameterError as error:
            raise FileExistsError(f"{folder}: holds a run of another version of this code ({error})") from error
        except _BROKEN:
            return None
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
    def source(self) -> str:
        """Where the data is from, and what was done to it."""
        return json.loads((self.folder / ARGS).read_text())["data"]["source"]

    @property
    def own(self) -> dict[str, str]:
        """A digest of the user's own dataset and network, by parameter, where the run used such."""
        return json.loads((self.folder / ARGS).read_text()).get("own", {})

    @property
    def layers(self) -> dict[str, int]:
        """Neurons of each layer in `divergence`, in the order of its columns; empty where a run did not tell."""
        return json.loads((self.folder / ARGS).read_text()).get("layers", {})

    @property
    def table(self) -> pd.DataFrame:
        """`performances` as `load` gives them, with the run's name, parameters and data source in every row."""
        return _table(self.folder)

    def weights(self) -> dict:
        """Final weights, a tensor by name, for `load_state_dict`."""
        import torch  # here, because those who read tables and draw figures need not wait for it

        return torch.load(self.folder / WEIGHTS, weights_only=True)


def read_performances(folder: Path) -> pd.DataFrame:
    """The records of a run folder; a last line that a crash cut short is left out."""
    text = (Path(folder) / PERFORMANCES).read_text()
    header, *lines = text[: text.rfind("\n") + 1].splitlines() or ["record,epoch"]
    columns = header.split(",")
    rows = [[float(value) for value in line.split(",")] for line in lines]
    return pd.DataFrame(rows, columns=columns).astype({"record": int})


def unfinished(folder: Path) -> str | None:
    """Why a run folder holds no finished run; None where it does."""
    return _inspect(Path(folder))[1]


def _inspect(folder: Path) -> tuple[pd.DataFrame, str | None]:
    """The table of a run folder, read once, and why it is not that of a finished run (None where it is)."""
    nothing = pd.DataFrame()
    if not (folder / ARGS).exists():
        return nothing, f"unfinished: no {ARGS}"
    try:
        parameters = json.loads((folder / ARGS).read_text())["parameters"]
        expected = parameters["epochs"] * parameters["records_per_epoch"]
        table = _table(folder) if (folder / PERFORMANCES).exists() else nothing
        if len(table) != expected:
            return table, f"unfinished: {len(table)} of {expected} records"
        missing = {"test_accuracy", *parameters["criteria"]} - set(table.columns)
    except _BROKEN as error:
        return nothing, f"broken: {type(error).__name__}: {error}"
    if missing:
        return table, f"broken: {PERFORMANCES} lacks {', '.join(sorted(missing))}"
    return table, None if (folder / WEIGHTS).exists() else f"unfinished: no {WEIGHTS}"


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
    for run in sorted({path.parent for path in (ROOT / folder).glob("*/*") if path.name in _OWN_FILES}):
        table, reason = _inspect(run)
        if reason is None:
            tables.append(table)
        else:
            skipped[run.name] = reason
            warnings.warn(f"run {run.name} skipped: {reason}", stacklevel=2)
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["run", "record", "epoch"])
    table.attrs["skipped"] = skipped
    return table


def _table(folder: Path) -> pd.DataFrame:
    description = json.loads((folder / ARGS).read_text())
    defaults = {name: field.default for name, field in Experiment.__dataclass_fields__.items()}
    parameters = {
        name: ",".join(str(item) for item in value) if isinstance(value, list | tuple) else value
        for name, value in (defaults | description["parameters"]).items()
    }
    about = description["data"]
    constant = {"run": folder.name, **parameters, "source": about["source"]}
    constant["realised_noise_rate"] = about.get("realised_noise_rate", math.nan)
    performances = read_performances(folder)
    leading = pd.DataFrame(constant, index=performances.index)
    return pd.concat([leading, performances], axis=1)


def studies(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split a table of runs into those that may be averaged: noise and seed apart, they have the same parameters.

    Args:
        table: of `load`.

    Returns:
        The rows of each study by its name: the dataset, followed by as few parameters as tell the studies of that
        dataset apart, such as "digits" or "digits epochs=30".
    """
    varied = {"noise", "noise_rate", "seed", "data_folder", "runs_folder"}
    fixed = [name for name in Experiment.__dataclass_fields__ if name in table.columns and name not in varied]
    found = {}
    labels = table["dataset"].map(dataset_label) if len(table) else []
    for dataset, rows in table.groupby(labels) if len(table) else ():
        differing = [name for name in fixed if rows[name].nunique(dropna=False) > 1]
        if not differing:
            found[dataset] = rows
            continue
        telling = _telling(rows, differing)
        for _, study in rows.groupby(differing, dropna=False):
            settings = " ".join(f"{name}={study[name].iloc[0]}" for name in telling)
            found[f"{dataset} {settings}"] = study
    return found


def _telling(rows: pd.DataFrame, differing: list[str]) -> list[str]:
    """The fewest of the differing parameters that tell all studies apart; the network before others."""
    ordered = sorted(differing, key=lambda name: name != "network")
    wanted = rows.groupby(differing, dropna=False).ngroups
    for few in itertools.chain(itertools.combinations(ordered, 1), itertools.combinations(ordered, 2)):
        if rows.groupby(list(few), dropna=False).ngroups == wanted:
            return list(few)
    return differing


def file_stem(study: str) -> str:
    """The name of a study as part of a file name; where it is long, the dataset and a hash of the rest."""
    dataset, _, settings = study.partition(" ")
    if len(settings) > 40:
        settings = hashlib.sha256(settings.encode()).hexdigest()[:8]
    return re.sub(r"[^\w.-]+", "_", f"{dataset}-{settings}" if settings else dataset)
