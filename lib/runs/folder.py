"""The folder of one run, read back; `lib.runs.writer` writes it, `lib.runs` reads many.

| file | what it holds |
| --- | --- |
| `args.json` | every parameter, versions, commit, device, data source, realised noise, recorded layers |
| `performances.csv` | a line a record, appended as it is made |
| `divergence.npy` | CND of every neuron, float32, shape (records, neurons); NaN where not yet recorded |
| `run.log` | what happened when, seconds an epoch |
| `weights.pt` | final weights; written last, so its presence marks the end; an imported run has none |
| `weights_average.pt` | the average of the weights at the end, where one is kept |
| `checkpoint.pt`, `checkpoint.previous.pt` | of an unfinished run, what it goes on from |
| `run.lock` | who is writing |
| `failure.txt` | why the last try failed, in one line |
| `<notebook>.ipynb` | the executed notebook, where papermill ran it |
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from lib.checks import DataError, ParameterError
from lib.parameters import Experiment
from lib.runs import logs
from lib.runs.logs import Archived

ARGS, PERFORMANCES, DIVERGENCE = "args.json", "performances.csv", "divergence.npy"
LOG, WEIGHTS, WEIGHTS_AVERAGE = "run.log", "weights.pt", "weights_average.pt"
LOCK, FAILURE = "run.lock", "failure.txt"
CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
IMPORTED = "imported_from"
"""Key of the environment in `args.json` that only an imported run has, see `lib.legacy`."""
_DEFAULTS = {name: field.default for name, field in Experiment.__dataclass_fields__.items()}
# What reading a damaged file of a run may raise.
_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError)


class Contents(NamedTuple):
    """What is the same in all records of a run, and its records."""

    constant: dict[str, Any]
    records: pa.Table


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
        return records(self.folder).to_pandas().astype({"record": int})

    @property
    def divergence(self) -> np.ndarray:
        """CND in bits, shape (records, neurons). Raises FileNotFoundError where it was not recorded."""
        return np.load(self.folder / DIVERGENCE)

    @property
    def source(self) -> str:
        """Where the data is from, and what was done to it."""
        return description(self.folder)["data"]["source"]

    @property
    def own(self) -> dict[str, str]:
        """A digest of the user's own dataset and network, by parameter, where the run used such."""
        return description(self.folder).get("own", {})

    @property
    def layers(self) -> dict[str, int]:
        """Neurons of each layer in `divergence`, in the order of its columns; empty where a run did not tell."""
        return layers_of(self.folder)

    @property
    def table(self) -> pd.DataFrame:
        """`performances` as `lib.runs.load` gives them, with name, parameters and data source in every row."""
        performances = self.performances
        about = pd.DataFrame(constant(self.folder.name, description(self.folder)), index=performances.index)
        return pd.concat([about, performances], axis=1)

    def weights(self, average: bool = False) -> dict[str, Any]:
        """Final weights, or their average, a tensor by name on the CPU, for `load_state_dict`."""
        import torch  # here, because those who read tables and draw figures need not wait for it

        return torch.load(
            self.folder / (WEIGHTS_AVERAGE if average else WEIGHTS), map_location="cpu", weights_only=True
        )


def description(folder: Path) -> dict[str, Any]:
    """What `args.json` holds, of a run folder or an archived run. Raises OSError, or ValueError where it is damaged."""
    archived = _archived(folder)
    return archived.description if archived else json.loads((Path(folder) / ARGS).read_text())


def _archived(folder: Path) -> Archived | None:
    """The run in the archives that lie where its folder would; None where it has a folder, or is not there."""
    return None if Path(folder).is_dir() else logs.read(Path(folder).parent).get(Path(folder).name)


def layers_of(folder: Path) -> dict[str, int]:
    """Neurons of each layer in the stored divergences of a run, in their order; empty where it did not tell."""
    return description(folder).get("layers", {})


def divergence_by_layer(folder: Path, records: int | None = None) -> dict[str, np.ndarray]:
    """CND in bits of the neurons of each stored layer, shape (records, neurons), in the order of the network.

    One layer without a name where the run does not tell its layers. Raises FileNotFoundError where none was recorded,
    ValueError where the file has not as many records, or not the neurons that the run tells.
    """
    archived = _archived(folder)
    kept = archived.divergence if archived else None
    bits = np.load(Path(folder) / DIVERGENCE) if kept is None else kept
    layers = layers_of(folder) or {"": bits.shape[-1]}
    expected = (len(bits) if records is None else records, sum(layers.values()))
    if bits.shape != expected or not expected[1]:
        raise ValueError(f"{DIVERGENCE} has shape {bits.shape}: must be {expected}")
    ends = np.cumsum(list(layers.values()))
    return dict(zip(layers, np.split(bits, ends[:-1], axis=1), strict=True))


def records(folder: Path) -> pa.Table:
    """The whole lines of `performances.csv`, float64 by name: a last one that a crash cut short is left out.

    Raises OSError, or DataError for damage.
    """
    content = (Path(folder) / PERFORMANCES).read_bytes()
    whole = content[: content.rfind(b"\n") + 1] or b"record,epoch\n"
    names = whole.partition(b"\n")[0].decode(errors="replace").split(",")
    numbers = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64()), null_values=[])
    try:
        return csv.read_csv(pa.py_buffer(whole), csv.ReadOptions(use_threads=False), convert_options=numbers)
    except pa.ArrowInvalid as error:
        why = " ".join(str(error).split())
        raise DataError(f"{PERFORMANCES} has lines that are no {len(names)} numbers ({why})") from error


def recorded(folder: Path) -> int:
    """How many records a run folder holds."""
    path = Path(folder) / PERFORMANCES
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def unfinished(folder: Path) -> str | None:
    """Why a run folder holds no finished run; None where it does."""
    return read(folder)[1]


def read(folder: Path) -> tuple[Contents | None, str | None]:
    """What a run folder holds, as far as it can be read, and why it is no finished run (None where it is)."""
    folder = Path(folder)
    if not (folder / ARGS).exists():
        return None, f"unfinished: no {ARGS}"
    try:
        about = description(folder)
        parameters, imported = about["parameters"], IMPORTED in about.get("environment", {})
        expected = parameters["epochs"] * parameters["records_per_epoch"]
        made = records(folder) if (folder / PERFORMANCES).exists() else pa.table({})
        contents = Contents(constant(folder.name, about), made)
        if len(made) != expected:
            return contents, f"unfinished: {len(made)} of {expected} records"
        missing = {"test_accuracy", *parameters["criteria"]} - set(made.column_names)
    except _BROKEN as error:
        return None, f"broken: {type(error).__name__}: {error}"
    if missing:
        return contents, f"broken: {PERFORMANCES} lacks {', '.join(sorted(missing))}"
    return contents, None if imported or (folder / WEIGHTS).exists() else f"unfinished: no {WEIGHTS}"


def constant(name: str, about: dict[str, Any]) -> dict[str, Any]:
    """What is the same in all records of a run: its name, every parameter, and its data."""
    parameters = {
        name: ",".join(str(item) for item in value) if isinstance(value, list | tuple) else value
        for name, value in (_DEFAULTS | about["parameters"]).items()
    }
    data = about["data"]
    realised = data.get("realised_noise_rate")
    rate = math.nan if realised is None else realised  # nobody knows it
    return {"run": name, **parameters, "source": data["source"], "realised_noise_rate": rate}
