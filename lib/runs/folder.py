"""The folder of one run, read back; `lib.runs.writer` writes it, `lib.runs` reads many.

| file | what it holds |
| --- | --- |
| `args.json` | every parameter, versions, commit, device, data source, realised noise, recorded layers |
| `performances.csv` | a line a record, appended as it is made |
| `divergence.npy` | CND of every neuron, float32, shape (records, neurons); NaN where not yet recorded |
| `run.log` | what happened when, seconds an epoch |
| `weights.pt` | final weights; written last, so its presence marks the end; an imported run has none |
| `checkpoint.pt`, `checkpoint.previous.pt` | of an unfinished run, what it goes on from |
| `run.lock` | who is writing |
| `failure.txt` | why the last try failed, in one line |
| `<notebook>.ipynb` | the executed notebook, where papermill ran it |
"""

import io
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.checks import ParameterError
from lib.parameters import Experiment

ARGS, PERFORMANCES, DIVERGENCE, LOG, WEIGHTS = (
    "args.json",
    "performances.csv",
    "divergence.npy",
    "run.log",
    "weights.pt",
)
LOCK, FAILURE = "run.lock", "failure.txt"
IMPORTED = "imported_from"
"""Key of the environment in `args.json` that only an imported run has, see `lib.legacy`."""
_DEFAULTS = {name: field.default for name, field in Experiment.__dataclass_fields__.items()}
# What reading a damaged file of a run may raise.
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)


class Contents(NamedTuple):
    """What is the same in all records of a run, and its records: names, and values of shape (records, columns)."""

    constant: dict[str, Any]
    columns: list[str]
    values: np.ndarray


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
        """A row a record: record, epoch, and every signal; see `lib.training.recorder.Recorder` for the columns."""
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
        return layers_of(self.folder)

    @property
    def table(self) -> pd.DataFrame:
        """`performances` as `lib.runs.load` gives them, with name, parameters and data source in every row."""
        description = json.loads((self.folder / ARGS).read_text())
        performances = self.performances
        constant = pd.DataFrame(_constant(self.folder.name, description), index=performances.index)
        return pd.concat([constant, performances], axis=1)

    def weights(self) -> dict:
        """Final weights, a tensor by name, for `load_state_dict`."""
        import torch  # here, because those who read tables and draw figures need not wait for it

        return torch.load(self.folder / WEIGHTS, weights_only=True)


def layers_of(folder: Path) -> dict[str, int]:
    """Neurons of each layer in the stored divergences of a run, in their order; empty where it did not tell."""
    return json.loads((Path(folder) / ARGS).read_text()).get("layers") or {}


def divergence_by_layer(folder: Path, records: int | None = None) -> dict[str, np.ndarray]:
    """CND in bits of the neurons of each stored layer, shape (records, neurons), in the order of the network.

    One layer without a name where the run does not tell its layers. Raises FileNotFoundError where none was recorded,
    ValueError where the file has not as many records, or not the neurons that the run tells.
    """
    bits = np.load(Path(folder) / DIVERGENCE)
    layers = layers_of(folder) or {"": bits.shape[-1]}
    expected = (len(bits) if records is None else records, sum(layers.values()))
    if bits.shape != expected or not expected[1]:
        raise ValueError(f"{DIVERGENCE} has shape {bits.shape}: must be {expected}")
    ends = np.cumsum(list(layers.values()))
    return dict(zip(layers, np.split(bits, ends[:-1], axis=1), strict=True))


def read_performances(folder: Path) -> pd.DataFrame:
    """The records of a run folder; a last line that a crash cut short is left out."""
    columns, values = records(folder)
    return pd.DataFrame(values, columns=columns).astype({"record": int})


def records(folder: Path) -> tuple[list[str], np.ndarray]:
    """Names and values, shape (records, columns), of the whole lines. Raises OSError, or ValueError for damage."""
    columns, whole = _whole_lines(folder)
    lines, fault = whole.splitlines(), f"{PERFORMANCES} has lines that are no {len(columns)} numbers"
    try:
        values = np.fromstring(",".join(lines), sep=",")
    except ValueError as error:
        raise ValueError(fault) from error
    if values.size != len(lines) * len(columns) or any(line.count(",") != len(columns) - 1 for line in lines):
        raise ValueError(fault)
    return columns, values.reshape(len(lines), len(columns))


def records_of_many(folders: Iterable[Path]) -> dict[Path, tuple[list[str], np.ndarray]]:
    """As `records` of each folder, parsed together in a quarter of the time.

    Folders whose records are missing are left out; those parsed together with damaged ones may be.
    """
    alike: dict[tuple[str, ...], dict[Path, str]] = {}
    for folder in folders:
        try:
            columns, whole = _whole_lines(folder)
        except (OSError, ValueError):
            continue
        if whole.count(",") == whole.count("\n") * (len(columns) - 1):
            alike.setdefault(tuple(columns), {})[folder] = whole
    found = {}
    for columns, texts in alike.items():
        ends = np.cumsum([whole.count("\n") for whole in texts.values()])
        try:
            text = io.StringIO("".join(texts.values()))
            options = {"header": None, "dtype": np.float64, "keep_default_na": False, "na_values": ["nan"]}
            values = pd.read_csv(text, **options).to_numpy()
        except ValueError:
            continue
        if values.shape == (ends[-1], len(columns)):
            parts = np.split(np.ascontiguousarray(values), ends[:-1])
            found |= {folder: (list(columns), part) for folder, part in zip(texts, parts, strict=True)}
    return found


def _whole_lines(folder: Path) -> tuple[list[str], str]:
    """Names of the columns, and the lines of values, without a last one that a crash cut short."""
    text = (Path(folder) / PERFORMANCES).read_text()
    header, _, whole = text[: text.rfind("\n") + 1].partition("\n")
    return (header or "record,epoch").split(","), whole


def recorded(folder: Path) -> int:
    """How many records a run folder holds."""
    path = Path(folder) / PERFORMANCES
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def unfinished(folder: Path) -> str | None:
    """Why a run folder holds no finished run; None where it does."""
    return read(folder)[1]


def read(folder: Path, recorded: tuple[list[str], np.ndarray] | None = None) -> tuple[Contents | None, str | None]:
    """What a run folder holds, as far as it can be read, and why it is no finished run (None where it is).

    Args:
        folder: of the run.
        recorded: its `records`, where they have been read before.
    """
    folder = Path(folder)
    if not (folder / ARGS).exists():
        return None, f"unfinished: no {ARGS}"
    try:
        description = json.loads((folder / ARGS).read_text())
        parameters, imported = description["parameters"], IMPORTED in description.get("environment", {})
        expected = parameters["epochs"] * parameters["records_per_epoch"]
        if recorded is None:
            recorded = records(folder) if (folder / PERFORMANCES).exists() else ([], np.empty((0, 0)))
        columns, values = recorded
        contents = Contents(_constant(folder.name, description), columns, values)
        if len(values) != expected:
            return contents, f"unfinished: {len(values)} of {expected} records"
        missing = {"test_accuracy", *parameters["criteria"]} - set(columns)
    except _BROKEN as error:
        return None, f"broken: {type(error).__name__}: {error}"
    if missing:
        return contents, f"broken: {PERFORMANCES} lacks {', '.join(sorted(missing))}"
    return contents, None if imported or (folder / WEIGHTS).exists() else f"unfinished: no {WEIGHTS}"


def _constant(name: str, description: dict[str, Any]) -> dict[str, Any]:
    """What is the same in all records of a run: its name, every parameter, and its data."""
    parameters = {
        name: ",".join(str(item) for item in value) if isinstance(value, list | tuple) else value
        for name, value in (_DEFAULTS | description["parameters"]).items()
    }
    about = description["data"]
    realised = about.get("realised_noise_rate", math.nan)
    return {"run": name, **parameters, "source": about["source"], "realised_noise_rate": realised}
