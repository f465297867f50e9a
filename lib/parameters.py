"""What a run is: one typed, frozen, validated description, from which everything else follows."""

import dataclasses
import difflib
import hashlib
import json
import numbers
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

_HERE = Path(__file__).resolve().parent.parent
ROOT = _HERE if (_HERE / "pyproject.toml").exists() else Path.cwd()
"""Folder that relative paths start from: the checkout, or the working folder where `lib` is installed."""

CHOICES: dict[str, list[str]] = {
    "dataset": ["digits", "news"],
    "noise": ["none", "symmetric", "pair"],
    "network": ["mlp", "small_cnn", "news_mlp"],
    "loss": ["cross_entropy", "mean_absolute_error"],
    "optimizer": ["sgd", "adam"],
    "criteria": [
        "cnd",
        "prediction_changes",
        "known_polluted_accuracy",
        "known_polluted_log_likelihood",
        "validation_accuracy_noisy",
        "validation_accuracy_clean",
    ],
    "cnd_filter": ["predicted_as_labelled", "all"],
    "cnd_weights": ["uniform", "frequency"],
    "dtype": ["float32", "bfloat16"],
}
"""Allowed names. `lib.data.register` and `lib.models.register` add a user's own."""


class ParameterError(ValueError):
    """A wrong parameter, told in one line: its name, the value given, what is allowed."""


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    allowed: str


_AT_LEAST_0 = _Rule(lambda v: v >= 0, "an integer of at least 0")
_AT_LEAST_1 = _Rule(lambda v: v >= 1, "an integer of at least 1")
_SHARE = _Rule(lambda v: 0 <= v < 1, "a number in [0, 1)")
_RULES: dict[str, _Rule] = {
    "data_folder": _Rule(bool, "the path of a folder"),
    "runs_folder": _Rule(bool, "the path of a folder"),
    "noise_rate": _SHARE,
    "validation_share": _SHARE,
    "probe_size": _AT_LEAST_1,
    "dropout": _SHARE,
    "learning_rate": _Rule(lambda v: 0 < v < float("inf"), "a finite number above 0"),
    "momentum": _SHARE,
    "weight_decay": _Rule(lambda v: 0 <= v < float("inf"), "a finite number of at least 0"),
    "batch_size": _AT_LEAST_1,
    "epochs": _AT_LEAST_1,
    "records_per_epoch": _AT_LEAST_1,
    "seed": _Rule(lambda v: 0 <= v < 2**32, "an integer in [0, 2^32)"),
    "patience": _AT_LEAST_1,
    "window": _AT_LEAST_1,
    "cnd_quantile": _Rule(lambda v: 0 <= v <= 1, "a number in [0, 1]"),
    "cnd_bins": _Rule(lambda v: v >= 2, "an integer of at least 2"),
    "signal_samples": _AT_LEAST_1,
    "device": _Rule(lambda v: re.fullmatch(r"cpu|cuda(:\d+)?", v), "cpu, cuda or cuda:N"),
    "threads": _AT_LEAST_1,
}
_PLACES = ("data_folder", "runs_folder")
_IPYTHON_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that determines a run, checked when it is made.

    Two experiments with the same parameters give the same numbers on the same CPU. The folders say where
    things lie, not what the run is: they take no part in `name`. Raises ParameterError.

    Attributes:
        dataset: name of the data, see `lib.data`.
        data_folder: where data is found, downloaded to and cached; relative paths start at the project root.
        runs_folder: where run folders are written.
        glove_file: GloVe text file with the word vectors of NEWS; empty: computed from the corpus.
        noise: kind of label noise, see `lib.noise`.
        noise_rate: share of training labels that are wrong, in [0, 1).
        validation_share: share of the training data held out for validation, in [0, 1).
        probe_size: number of samples in the known-polluted probe.
        network: name of the network, see `lib.models`.
        dropout: probability that a hidden unit is dropped.
        loss: training loss, see `lib.losses`.
        optimizer: sgd or adam.
        learning_rate, momentum, weight_decay: of the optimizer; momentum is for sgd only.
        batch_size: largest number of samples in a batch; an epoch is cut into equal batches.
        epochs: passes over the training data.
        records_per_epoch: how often in each epoch every signal is recorded.
        seed: of noise, held-out share, probe, initial weights, batch order and dropout.
        criteria: signals recorded for early stopping, see `lib.criteria`.
        patience: records without improvement after which a criterion stops.
        window: records in the trailing mean that smooths a signal.
        cnd_quantile: quantile over neurons that makes one number of their divergences.
        cnd_bins: bins of the density histograms.
        cnd_layer: module whose output is the pre-activation; empty: the last hidden layer.
        cnd_filter: training samples that count, all or those predicted as labelled.
        cnd_weights: class weights, uniform (generalised Jensen-Shannon) or frequency (mutual information).
        signal_samples: largest number of training samples on which signals are measured.
        device: cpu, cuda or cuda:N.
        dtype: float32, or bfloat16 for mixed precision.
        threads: CPU threads; a parameter because another number sums in another order.
    """

    dataset: str = "digits"
    data_folder: str = "data"
    runs_folder: str = "runs"
    glove_file: str = ""
    noise: str = "symmetric"
    noise_rate: float = 0.4
    validation_share: float = 0.0
    probe_size: int = 50
    network: str = "mlp"
    dropout: float = 0.0
    loss: str = "cross_entropy"
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 64
    epochs: int = 100
    records_per_epoch: int = 1
    seed: int = 0
    criteria: tuple[str, ...] = (
        "cnd",
        "prediction_changes",
        "known_polluted_accuracy",
        "known_polluted_log_likelihood",
    )
    patience: int = 10
    window: int = 5
    cnd_quantile: float = 0.9
    cnd_bins: int = 40
    cnd_layer: str = ""
    cnd_filter: str = "predicted_as_labelled"
    cnd_weights: str = "uniform"
    signal_samples: int = 10_000
    device: str = "cpu"
    dtype: str = "float32"
    threads: int = 1

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _typed(field.name, getattr(self, field.name), field.type)
            object.__setattr__(self, field.name, value)
            if field.name in CHOICES:
                for name in value if isinstance(value, tuple) else (value,):
                    check_choice(field.name, name, CHOICES[field.name])
            if field.name in _RULES and not _RULES[field.name].holds(value):
                raise ParameterError(f"{field.name}={value!r}: must be {_RULES[field.name].allowed}")
        self._check_together()

    def _check_together(self):
        if self.noise == "none" and self.noise_rate != 0:
            raise ParameterError(f"noise_rate={self.noise_rate}: must be 0 where noise='none'")
        if len(set(self.criteria)) < len(self.criteria):
            raise ParameterError(f"criteria={self.criteria}: each may be named once")
        if self.validation_share == 0 and any(c.startswith("validation") for c in self.criteria):
            raise ParameterError("validation_share=0.0: must be above 0 where criteria name a validation accuracy")
        if self.optimizer != "sgd" and self.momentum != 0:
            raise ParameterError(f"momentum={self.momentum}: must be 0 where optimizer={self.optimizer!r}")
        if self.window > self.records:
            raise ParameterError(f"window={self.window}: must be at most the {self.records} records of the run")

    @property
    def records(self) -> int:
        """Number of records of the whole run."""
        return self.epochs * self.records_per_epoch

    @property
    def name(self) -> str:
        """Stable name of the run. Its last part is a hash of every parameter that is not at its default."""
        defaults = Experiment.__dataclass_fields__
        content = {k: v for k, v in self.parameters().items() if v != defaults[k].default and k not in _PLACES}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        noise = self.noise if self.noise == "none" else f"{self.noise}{self.noise_rate:g}"
        return f"{self.dataset}-{noise}-{self.network}-seed{self.seed}-{digest}"

    @property
    def folder(self) -> Path:
        """Folder of this run."""
        return ROOT / self.runs_folder / self.name

    def parameters(self) -> dict[str, Any]:
        """Every parameter by name, as `from_dict` takes it."""
        return dataclasses.asdict(self)

    def same_run(self, other: "Experiment") -> bool:
        """Whether both describe the same run, wherever its data and folder lie."""
        places = {place: getattr(self, place) for place in _PLACES}
        return self == dataclasses.replace(other, **places)

    @classmethod
    def from_dict(cls, parameters: Mapping[str, Any]) -> "Experiment":
        """An experiment from names and values; what is not named keeps its default. Raises ParameterError."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name, value in parameters.items():
            if str(name) not in known:
                raise ParameterError(f"unknown parameter {name}={value!r}{_closest(str(name), known)}")
        return cls(**parameters)

    @classmethod
    def from_cell(cls, namespace: Mapping[str, Any]) -> "Experiment":
        """An experiment from the variables of a notebook's `parameters` cell: pass `globals()`.

        Every public plain value (text, number, list) counts as a parameter, so that a misspelt one is an error;
        a helper variable defined before this call starts with an underscore. Raises ParameterError.
        """
        plain = (str, int, float, list, tuple, types.NoneType)
        return cls.from_dict(
            {
                name: value
                for name, value in namespace.items()
                if isinstance(value, plain) and not name.startswith("_") and name not in _IPYTHON_NAMES
            }
        )

    @classmethod
    def read(cls, args_file: Path) -> "Experiment":
        """The experiment that a run folder's `args.json` describes, equal to the one that wrote it."""
        return cls.from_dict(json.loads(Path(args_file).read_text())["parameters"])


def _closest(name: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    return f": did you mean {close[0]!r}?" if close else f": must be one of {', '.join(allowed)}"


def check_choice(parameter: str, value: str, allowed: list[str]) -> None:
    """Raise ParameterError, with the closest match, unless the value is one of the allowed names."""
    if value not in allowed:
        close = difflib.get_close_matches(str(value), allowed, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ParameterError(f"{parameter}={value!r}: must be one of {', '.join(allowed)}{hint}")


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as the field's type; whole floats are no integers and truth values no numbers."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        if kind is float:
            return float(value)
        if kind is int and isinstance(value, numbers.Integral):
            return int(value)
    if kind == tuple[str, ...]:
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ParameterError(f"{name}={value!r}: must be a list of names")
    if isinstance(value, bool) or not isinstance(value, kind):
        words = {int: "an integer", float: "a number", str: "text"}
        allowed = _RULES[name].allowed if name in _RULES else words[kind]
        not_text = ", not text" if isinstance(value, str) else ""
        raise ParameterError(f"{name}={value!r}: must be {allowed}{not_text}")
    return value
