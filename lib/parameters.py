"""What a run is: one typed, frozen, validated description, from which everything else follows."""

import dataclasses
import json
import numbers
import os
import re
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .catalogue import CRITERIA, DATASETS, LOSSES, NETWORKS, NOISES
from .checks import ParameterError, Rule, check_choice, check_known, typed
from .files import digest

_HERE = Path(__file__).resolve().parent.parent
ROOT = _HERE if (_HERE / "pyproject.toml").exists() else Path.cwd()
"""Folder that relative paths start from: the checkout, or the working folder where `lib` is installed."""

_AT_LEAST_0 = Rule(lambda v: v >= 0, "an integer of at least 0")
_AT_LEAST_1 = Rule(lambda v: v >= 1, "an integer of at least 1")
_AT_LEAST_2 = Rule(lambda v: v >= 2, "an integer of at least 2")
_SHARE = Rule(lambda v: 0 <= v < 1, "a number in [0, 1)")
_POSITIVE = Rule(lambda v: 0 < v < float("inf"), "a finite number above 0")
_FINITE = Rule(lambda v: 0 <= v < float("inf"), "a finite number of at least 0")
_DEVICE = Rule(lambda v: bool(re.fullmatch(r"cpu|cuda(:\d+)?", v)), "cpu, cuda or cuda:N")
_SEED = Rule(lambda v: 0 <= v < 2**32, "an integer in [0, 2^32)")
_DEFAULT = (
    *("cnd", "prediction_changes", "known_polluted_accuracy", "known_polluted_log_likelihood"),
    *("average_disagreement", "known_polluted_log_likelihood_average"),
)
_ESTIMATORS = ("histogram", "gaussian", "kernel", "neighbours")
_IPYTHON_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}


def _row(
    default: Any,
    words: str,
    rule: Rule | None = None,
    *,
    choices: Collection[str] = (),
    kind: str = "training",
    replayed: bool = False,
    path: bool = False,
) -> Any:
    """A parameter: its default, what it is, and all that others must know of it.

    Args:
        default: its value where none is given; its type is the parameter's.
        words: what it is.
        rule: that a value must keep.
        choices: names, one of which (of a list, each of which) it must be.
        kind: "place" (where things lie, not what the run is), "setting" (what a study varies), "training" (what is
            trained), "stopping" (how signals are turned into stops), "measuring" (what is measured) or "recording"
            (what more is measured).
        replayed: whether what another value would have given follows from a finished run.
        path: whether `~` and environment variables in it are replaced.
    """
    about = {"words": words, "rule": rule, "choices": choices, "kind": kind, "replayed": replayed, "path": path}
    return dataclasses.field(default=default, metadata=about)


_place = partial(_row, rule=Rule(bool, "the path of a folder"), kind="place", path=True)
_measured = partial(_row, kind="measuring")
_replayed = partial(_row, kind="measuring", replayed=True)


def dataset_label(dataset: str) -> str:
    """What names of runs, tables and figures call a dataset: its name, or the last part of its path."""
    return re.sub(r"\W+", "_", Path(dataset).stem) if "/" in dataset else dataset


def expanded(name: str, path: str) -> str:
    """A path with `~` and environment variables replaced. Raises ParameterError for a variable that is not set."""
    found = os.path.expanduser(os.path.expandvars(path))
    if unset := re.search(r"\$(\w+|\{[^}]*\})", found):
        raise ParameterError(f"{name}={path!r}: must name environment variables that are set, {unset[0]} is not")
    return found


def located(name: str, path: Path | str) -> Path:
    """Where a path lies: as `expanded`; a relative one starts at the project root."""
    return ROOT / expanded(name, str(path))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that determines a run, checked when it is made.

    Two experiments with the same parameters give the same numbers on the same CPU. The folders say where
    things lie, not what the run is: they take no part in `name`. Raises ParameterError.

    Attributes:
    """

    dataset: str = _row(
        "digits", "name of a row of `lib.catalogue`, or path of your data: `lib.data.own`", choices=DATASETS
    )
    data_folder: str = _place("data", "where data is found, downloaded to and cached; relative to the project root")
    runs_folder: str = _place("runs", "where run folders are written; relative to the project root")
    image_size: int = _row(0, "pixels that a folder's images are scaled and cropped to; 0: as they are", _AT_LEAST_0)
    layout: str = _row(
        "auto",
        "axes of your own samples; auto: what alone fits, see `lib.data.dataset`",
        choices=("auto", "channels_last", "channels_first", "features"),
    )
    scaling: str = _row(
        "auto",
        "of your own data by training mean and deviation; auto: images, and features far from unit scale",
        choices=("auto", "standardise", "none"),
    )
    train_samples: int = _row(0, "number of samples drawn from the dataset's; 0: all of them", _AT_LEAST_0)
    test_samples: int = _row(0, "likewise of the test set", _AT_LEAST_0)
    glove_file: str = _row("", "text file with the word vectors of NEWS; empty: computed from the corpus", path=True)
    noise: str = _row("symmetric", "kind of label noise, see `lib.noise`", choices=NOISES, kind="setting")
    noise_rate: float = _row(0.4, "share of wrong training labels; 0 for labels that bring it", _SHARE, kind="setting")
    validation_share: float = _measured(0.0, "share of the training data held out for validation", _SHARE)
    probe_size: int = _row(50, "number of samples in the known-polluted probe", _AT_LEAST_1)
    probe_of: str = _row("all", "samples that the probe copies; nobody knows the clean ones", choices=("all", "clean"))
    augmentation: str = _row("none", "of training images", choices=("none", "crop", "flip", "crop_flip"))
    network: str = _row("mlp", "name of the network, see `lib.models`", choices=NETWORKS)
    dropout: float = _row(0.0, "probability that a hidden unit is dropped", _SHARE)
    loss: str = _row("cross_entropy", "training loss, see `lib.losses`", choices=LOSSES)
    optimizer: str = _row("sgd", "of the weights", choices=("sgd", "adam", "adamw"))
    learning_rate: float = _row(0.1, "of the optimizer", _POSITIVE)
    schedule: str = _row("constant", "of the learning rate over epochs", choices=("constant", "multi_step", "cosine"))
    milestones: tuple[int, ...] = _row((), "epochs after which multi_step multiplies the learning rate by decay")
    decay: float = _row(0.1, "see milestones", Rule(lambda v: 0 < v <= 1, "a number in (0, 1]"))
    momentum: float = _row(0.0, "of the optimizer, for sgd only", _SHARE)
    weight_decay: float = _row(0.0, "of the optimizer", _FINITE)
    batch_size: int = _row(64, "largest number of samples in a batch; an epoch is cut into equal batches", _AT_LEAST_1)
    epochs: int = _row(100, "passes over the training data", _AT_LEAST_1)
    records_per_epoch: int = _row(1, "how often in each epoch every signal is recorded", _AT_LEAST_1)
    seed: int = _row(
        0, "of all that is drawn: samples, noise, probe, weights, order, augmentation", _SEED, kind="setting"
    )
    criteria: tuple[str, ...] = _row(_DEFAULT, "signals recorded", choices=CRITERIA, kind="recording", replayed=True)
    patience: int = _row(10, "records without improvement that end it", _AT_LEAST_1, kind="stopping", replayed=True)
    window: int = _row(5, "records in the trailing mean of a signal", _AT_LEAST_1, kind="stopping", replayed=True)
    stopping_rule: str = _row(
        "extremum", "see `lib.stopping`", choices=("extremum", "published"), kind="stopping", replayed=True
    )
    cnd_estimator: str = _replayed("histogram", "of the class densities", choices=_ESTIMATORS)
    cnd_aggregation: str = _replayed("quantile", "makes one number of the neurons'", choices=("quantile", "mean"))
    cnd_quantile: float = _replayed(0.9, "the quantile over neurons", Rule(lambda v: 0 <= v <= 1, "a number in [0, 1]"))
    cnd_bins: int = _measured(40, "bins of the density histograms", _AT_LEAST_2)
    cnd_layer: str = _replayed("", "module whose output is the pre-activation; empty: the last hidden layer or block")
    cnd_pooling: str = _measured("max", "of a layer's maps over their positions", choices=("max", "mean"))
    cnd_stored_layers: tuple[str, ...] = _row(
        (),
        'layers stored too, with ":mean" or ":max" behind the name pooled so; ["all"]: every hidden layer',
        kind="recording",
        replayed=True,
    )
    cnd_correction: str = _measured("none", "of the histogram's bias", choices=("none", "miller_madow"))
    cnd_filter: str = _measured(
        "predicted_as_labelled",
        'training samples that count; published: "all" of more than ten classes',
        choices=("predicted_as_labelled", "all"),
    )
    cnd_weights: str = _measured(
        "uniform",
        "class weights: generalised Jensen-Shannon divergence, or mutual information",
        choices=("uniform", "frequency"),
    )
    changes_over: int = _measured(5, "records over which the longer prediction changes are taken", _AT_LEAST_1)
    critical_radius: float = _measured(0.1, "of the ball of critical samples, in units of the input", _POSITIVE)
    gradient_samples: int = _measured(256, "largest number of samples for gradients and activation graphs", _AT_LEAST_2)
    signal_samples: int = _measured(10_000, "largest number of training samples for all other signals", _AT_LEAST_1)
    signal_passes: str = _measured(
        "evaluation",
        "where signals are read: in evaluation mode, or in the training passes; see `lib.training.passes`",
        choices=("evaluation", "training"),
    )
    average_epochs: float = _measured(1.0, "epochs that the average of the weights reaches back; 0: none", _FINITE)
    device: str = _row("cpu", "that trains", _DEVICE)
    dtype: str = _row("float32", "bfloat16: mixed precision", choices=("float32", "bfloat16"))
    memory_format: str = _row("contiguous", "NCHW, or NHWC of images", choices=("contiguous", "channels_last"))
    threads: int = _row(1, "of the CPU; a parameter because another number sums in another order", _AT_LEAST_1)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            about, given = field.metadata, getattr(self, field.name)
            given = os.fspath(given) if isinstance(given, os.PathLike) else given
            value = typed(field.name, given, field.type, about["rule"])
            if about["path"]:
                value = expanded(field.name, value)
            if field.name == "dataset" and ("/" in value or value.endswith(".npz")):
                value = os.path.normpath(expanded("dataset", value))  # one name for one path
                value = value if "/" in value else f"./{value}"
            object.__setattr__(self, field.name, value)
            if about["choices"] and not (field.name == "dataset" and self.own_data):
                or_else = ", or the path of an .npz file or image folder" if field.name == "dataset" else ""
                for name in value if isinstance(value, tuple) else (value,):
                    check_choice(field.name, name, list(about["choices"]), or_else)
        self._check_together()

    def _check_together(self):
        noise = NOISES[self.noise]
        if not noise.rated and self.noise_rate != 0:
            raise ParameterError(f"noise_rate={self.noise_rate}: must be 0 where noise={self.noise!r}")
        if noise.people_of not in ("", self.dataset):
            raise ParameterError(
                f"noise={self.noise!r}: must be used with dataset={noise.people_of!r}, not {self.dataset!r}"
            )
        if not noise.known and self.asks_for("truth"):
            first = next(name for name in self.criteria if "truth" in CRITERIA[name].needs)
            raise ParameterError(f"criteria: must need no true labels where noise={self.noise!r}, not {first}")
        if not noise.known and self.probe_of == "clean":
            raise ParameterError(f"probe_of='clean': must be all where noise={self.noise!r}")
        if len(set(self.criteria)) < len(self.criteria):
            raise ParameterError(f"criteria={self.criteria}: each may be named once")
        if derived := [name for name in self.criteria if CRITERIA[name].members]:
            raise ParameterError(
                f"criteria={self.criteria}: must be signals; {derived[0]} follows from those of its members"
            )
        if self.validation_share == 0 and self.asks_for("validation"):
            raise ParameterError("validation_share=0.0: must be above 0 where criteria name a validation accuracy")
        if self.average_epochs == 0 and self.asks_for("average"):
            raise ParameterError("average_epochs=0.0: must be above 0 where criteria read the average of the weights")
        stored = self.cnd_stored_layers
        if len(set(stored)) < len(stored) or ("all" in stored and len(stored) > 1):
            raise ParameterError(f"cnd_stored_layers={stored}: each may be named once, and 'all' only by itself")
        if (self.cnd_layer or stored) and "cnd" not in self.criteria:
            raise ParameterError("criteria: must name cnd where cnd_layer or cnd_stored_layers name layers")
        if self.image_size and (not self.own_data or self.dataset.endswith(".npz")):
            raise ParameterError(f"image_size={self.image_size}: must be 0 where dataset is no folder of images")
        for name, value in (("layout", self.layout), ("scaling", self.scaling)):
            if value != "auto" and not self.own_data:
                raise ParameterError(f"{name}={value!r}: must be auto where dataset is no path of your own data")
        if not self.own_data and not DATASETS[self.dataset].of_images:
            if self.augmentation != "none":
                raise ParameterError(f"augmentation={self.augmentation!r}: must be none where dataset={self.dataset!r}")
            if NETWORKS[self.network].of_images:
                raise ParameterError(
                    f"network={self.network!r}: must be one for samples that are no images, as those of {self.dataset}"
                )
        if self.schedule != "multi_step" and self.decay != Experiment.decay:
            raise ParameterError(f"decay={self.decay}: is for schedule='multi_step' only")
        if self.optimizer != "sgd" and self.momentum != 0:
            raise ParameterError(f"momentum={self.momentum}: must be 0 where optimizer={self.optimizer!r}")
        if (self.schedule == "multi_step") != bool(self.milestones):
            raise ParameterError(
                f"milestones={self.milestones}: must be named for schedule='multi_step', and only then"
            )
        steps = [0, *self.milestones, self.epochs]
        if self.milestones and sorted(set(steps)) != steps:
            raise ParameterError(f"milestones={self.milestones}: must rise, from above 0 to below epochs={self.epochs}")
        if self.window > self.records:
            raise ParameterError(f"window={self.window}: must be at most the {self.records} records of the run")

    @property
    def records(self) -> int:
        """Number of records of the whole run."""
        return self.epochs * self.records_per_epoch

    @property
    def own_data(self) -> bool:
        """Whether `dataset` is the path of a user's own file or folder."""
        return "/" in self.dataset

    @property
    def name(self) -> str:
        """Stable name of the run. Its last part is a hash of every parameter that is not at its default."""
        defaults = Experiment.__dataclass_fields__
        content = {k: v for k, v in self.parameters().items() if v != defaults[k].default and k not in PLACES}
        code = digest(json.dumps(content, sort_keys=True))
        noise = f"{self.noise}{self.noise_rate:g}" if NOISES[self.noise].rated else self.noise
        return f"{dataset_label(self.dataset)}-{noise}-{self.network}-seed{self.seed}-{code}"

    @property
    def folder(self) -> Path:
        """Folder of this run."""
        return ROOT / self.runs_folder / self.name

    def asks_for(self, need: str) -> bool:
        """Whether a criterion needs a "layer", a "probe", "validation" samples, the "average" or the "truth"."""
        return any(need in CRITERIA[name].needs for name in self.criteria)

    def parameters(self) -> dict[str, Any]:
        """Every parameter by name, as `from_dict` takes it."""
        return dataclasses.asdict(self)

    def same_run(self, other: "Experiment") -> bool:
        """Whether both describe the same run, wherever its data and folder lie."""
        places = {place: getattr(self, place) for place in PLACES}
        return self == dataclasses.replace(other, **places)

    @classmethod
    def from_dict(cls, parameters: Mapping[str, Any]) -> "Experiment":
        """An experiment from names and values; what is not named keeps its default. Raises ParameterError."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name, value in parameters.items():
            check_known(str(name), value, known)
        return cls(**parameters)

    @classmethod
    def from_cell(cls, namespace: Mapping[str, Any]) -> "Experiment":
        """An experiment from the variables of a notebook's `parameters` cell: pass `globals()`.

        Every public plain value (text, number, list) counts as a parameter, so that a misspelt one is an error;
        a helper variable of such a type starts with an underscore, so that all cells can be run again. Raises
        ParameterError.
        """
        plain = (str, bool, int, float, list, tuple, types.NoneType)  # and not what is derived from them: records
        return cls.from_dict(
            {
                name: value
                for name, value in namespace.items()
                if (type(value) in plain and not name.startswith("_") and name not in _IPYTHON_NAMES)
                or (name in PARAMETERS and isinstance(value, os.PathLike | numbers.Number))
            }
        )

    @classmethod
    def read(cls, args_file: Path) -> "Experiment":
        """The experiment that a run folder's `args.json` describes, equal to the one that wrote it."""
        return cls.from_dict(json.loads(Path(args_file).read_text())["parameters"])


def of_kind(*kinds: str) -> list[str]:
    """Names of the parameters of some kinds: place, setting, training, stopping, measuring or recording."""
    return [name for name, row in PARAMETERS.items() if row.metadata["kind"] in kinds]


def parameter_label(name: str) -> str:
    """How tables and figures call a parameter."""
    return name.replace("_", " ").replace("cnd", "CND")


PARAMETERS: dict[str, dataclasses.Field[Any]] = {field.name: field for field in dataclasses.fields(Experiment)}
"""Every parameter by name: its type, its default, and in `metadata` the rest of its row."""
PLACES = of_kind("place")
REPLAYED = [name for name, row in PARAMETERS.items() if row.metadata["replayed"]]
"""Parameters of which other values can be tried on a finished run."""


def _described(row: dataclasses.Field[Any]) -> str:
    choices = f"; one of {', '.join(row.metadata['choices'])}" if row.metadata["choices"] else ""
    return f"        {row.name}: {row.metadata['words']}{choices}. Default {row.default!r}."


Experiment.__doc__ = "\n".join([str(Experiment.__doc__), *map(_described, PARAMETERS.values()), "    "])
