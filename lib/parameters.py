"""What a run is: one typed, frozen, validated description, from which everything else follows."""

import dataclasses
import hashlib
import json
import os
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.checks import ParameterError, Rule, check_choice, check_known, typed
from lib.choices import CHOICES, HUMAN_NOISE, OF_IMAGES

_HERE = Path(__file__).resolve().parent.parent
ROOT = _HERE if (_HERE / "pyproject.toml").exists() else Path.cwd()
"""Folder that relative paths start from: the checkout, or the working folder where `lib` is installed."""

_AT_LEAST_0 = Rule(lambda v: v >= 0, "an integer of at least 0")
_AT_LEAST_1 = Rule(lambda v: v >= 1, "an integer of at least 1")
_SHARE = Rule(lambda v: 0 <= v < 1, "a number in [0, 1)")
_RULES: dict[str, Rule] = {
    "data_folder": Rule(bool, "the path of a folder"),
    "runs_folder": Rule(bool, "the path of a folder"),
    "image_size": _AT_LEAST_0,
    "train_samples": _AT_LEAST_0,
    "test_samples": _AT_LEAST_0,
    "noise_rate": _SHARE,
    "validation_share": _SHARE,
    "probe_size": _AT_LEAST_1,
    "dropout": _SHARE,
    "learning_rate": Rule(lambda v: 0 < v < float("inf"), "a finite number above 0"),
    "decay": Rule(lambda v: 0 < v <= 1, "a number in (0, 1]"),
    "momentum": _SHARE,
    "weight_decay": Rule(lambda v: 0 <= v < float("inf"), "a finite number of at least 0"),
    "batch_size": _AT_LEAST_1,
    "epochs": _AT_LEAST_1,
    "records_per_epoch": _AT_LEAST_1,
    "seed": Rule(lambda v: 0 <= v < 2**32, "an integer in [0, 2^32)"),
    "patience": _AT_LEAST_1,
    "window": _AT_LEAST_1,
    "cnd_quantile": Rule(lambda v: 0 <= v <= 1, "a number in [0, 1]"),
    "cnd_bins": Rule(lambda v: v >= 2, "an integer of at least 2"),
    "signal_samples": _AT_LEAST_1,
    "changes_over": _AT_LEAST_1,
    "critical_radius": Rule(lambda v: 0 < v < float("inf"), "a finite number above 0"),
    "gradient_samples": Rule(lambda v: v >= 2, "an integer of at least 2"),
    "device": Rule(lambda v: re.fullmatch(r"cpu|cuda(:\d+)?", v), "cpu, cuda or cuda:N"),
    "threads": _AT_LEAST_1,
}
_RATELESS = {"none"}.union(*HUMAN_NOISE.values())
_PLACES = ("data_folder", "runs_folder")
_IPYTHON_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}


def dataset_label(dataset: str) -> str:
    """What names of runs, tables and figures call a dataset: its name, or the last part of its path."""
    return re.sub(r"\W+", "_", Path(dataset).stem) if "/" in dataset else dataset


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that determines a run, checked when it is made.

    Two experiments with the same parameters give the same numbers on the same CPU. The folders say where
    things lie, not what the run is: they take no part in `name`. Raises ParameterError.

    Attributes:
        dataset: name of the data, see `lib.data`; or the path of a user's own `.npz` file, or image folder (a path
            with a slash), see `lib.data.own`.
        data_folder: where data is found, downloaded to and cached; relative paths start at the project root.
        runs_folder: where run folders are written.
        image_size: pixels that images of a folder are scaled and cropped to; 0: as they are, all of one size.
        train_samples, test_samples: number of samples drawn from the dataset's; 0: all of them.
        glove_file: GloVe text file with the word vectors of NEWS; empty: computed from the corpus.
        noise: kind of label noise, see `lib.noise`.
        noise_rate: share of training labels that are wrong, in [0, 1), for instance noise the centre of the samples'
            rates; 0 for human labels, which bring their own.
        validation_share: share of the training data held out for validation, in [0, 1).
        probe_size: number of samples in the known-polluted probe.
        augmentation: of training images, see `lib.data.augmentation`.
        network: name of the network, see `lib.models`.
        dropout: probability that a hidden unit is dropped.
        loss: training loss, see `lib.losses`.
        optimizer: sgd, adam or adamw.
        schedule: of the learning rate over epochs: constant, multi_step or cosine (to 0 at the end).
        milestones, decay: epochs after which multi_step multiplies the learning rate by decay.
        learning_rate, momentum, weight_decay: of the optimizer; momentum is for sgd only.
        batch_size: largest number of samples in a batch; an epoch is cut into equal batches.
        epochs: passes over the training data.
        records_per_epoch: how often in each epoch every signal is recorded.
        seed: of the samples drawn, noise, held-out share, probe, weights, batch order, augmentation and dropout.
        criteria: signals recorded for early stopping, see `lib.criteria`.
        patience: records without improvement after which a criterion stops.
        window: records in the trailing mean that smooths a signal.
        cnd_estimator: of the class densities, see `lib.cnd` and `lib.estimators`.
        cnd_aggregation: what makes one number of the neurons' divergences, quantile or mean.
        cnd_quantile: the quantile over neurons.
        cnd_bins: bins of the density histograms.
        cnd_layer: module whose output is the pre-activation; empty: the last hidden layer.
        cnd_stored_layers: further modules whose neurons' divergences are stored; ["all"]: every hidden layer.
        cnd_filter: training samples that count, all or those predicted as labelled.
        cnd_weights: class weights, uniform (generalised Jensen-Shannon) or frequency (mutual information).
        changes_over: records over which the longer prediction changes are taken.
        critical_radius: of the ball in which differently classified points are looked for, in units of the input.
        gradient_samples: largest number of training samples whose gradients and activation graphs are taken.
        signal_samples: largest number of training samples on which all other signals are measured.
        signal_passes: where predictions, pre-activations and the probe are seen: in the training passes themselves, at
            no cost, or in further passes in evaluation mode at each record, see `lib.training.passes`.
        device: cpu, cuda or cuda:N.
        dtype: float32, or bfloat16 for mixed precision.
        memory_format: of images and convolutions in memory: contiguous (NCHW) or channels_last (NHWC).
        threads: CPU threads; a parameter because another number sums in another order.
    """

    dataset: str = "digits"
    data_folder: str = "data"
    runs_folder: str = "runs"
    image_size: int = 0
    train_samples: int = 0
    test_samples: int = 0
    glove_file: str = ""
    noise: str = "symmetric"
    noise_rate: float = 0.4
    validation_share: float = 0.0
    probe_size: int = 50
    augmentation: str = "none"
    network: str = "mlp"
    dropout: float = 0.0
    loss: str = "cross_entropy"
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    schedule: str = "constant"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
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
    cnd_estimator: str = "histogram"
    cnd_aggregation: str = "quantile"
    cnd_quantile: float = 0.9
    cnd_bins: int = 40
    cnd_layer: str = ""
    cnd_stored_layers: tuple[str, ...] = ()
    cnd_filter: str = "predicted_as_labelled"
    cnd_weights: str = "uniform"
    changes_over: int = 5
    critical_radius: float = 0.1
    gradient_samples: int = 256
    signal_samples: int = 10_000
    signal_passes: str = "training"
    device: str = "cpu"
    dtype: str = "float32"
    memory_format: str = "contiguous"
    threads: int = 1

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = typed(field.name, getattr(self, field.name), field.type, _RULES.get(field.name))
            if field.name == "dataset" and ("/" in value or value.endswith(".npz")):
                value = os.path.normpath(value)  # one name for one path
                value = value if "/" in value else f"./{value}"
            object.__setattr__(self, field.name, value)
            if field.name in CHOICES and not (field.name == "dataset" and self.own_data):
                or_else = ", or the path of an .npz file or image folder" if field.name == "dataset" else ""
                for name in value if isinstance(value, tuple) else (value,):
                    check_choice(field.name, name, CHOICES[field.name], or_else)
        self._check_together()

    def _check_together(self):
        if self.noise in _RATELESS and self.noise_rate != 0:
            raise ParameterError(f"noise_rate={self.noise_rate}: must be 0 where noise={self.noise!r}")
        owners = [dataset for dataset, kinds in HUMAN_NOISE.items() if self.noise in kinds]
        if owners and self.dataset not in owners:
            raise ParameterError(f"noise={self.noise!r}: must be used with dataset={owners[0]!r}, not {self.dataset!r}")
        if len(set(self.criteria)) < len(self.criteria):
            raise ParameterError(f"criteria={self.criteria}: each may be named once")
        if self.validation_share == 0 and any(c.startswith("validation") for c in self.criteria):
            raise ParameterError("validation_share=0.0: must be above 0 where criteria name a validation accuracy")
        stored = self.cnd_stored_layers
        if len(set(stored)) < len(stored) or ("all" in stored and len(stored) > 1):
            raise ParameterError(f"cnd_stored_layers={stored}: each may be named once, and 'all' only by itself")
        if (self.cnd_layer or stored) and "cnd" not in self.criteria:
            raise ParameterError("criteria: must name cnd where cnd_layer or cnd_stored_layers name layers")
        if self.image_size and (not self.own_data or self.dataset.endswith(".npz")):
            raise ParameterError(f"image_size={self.image_size}: must be 0 where dataset is no folder of images")
        if self.dataset == "news" and self.augmentation != "none":
            raise ParameterError(f"augmentation={self.augmentation!r}: must be none where dataset='news'")
        if self.dataset == "news" and self.network in OF_IMAGES:
            raise ParameterError(
                f"network={self.network!r}: must be one for samples that are no images, as those of news"
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
        content = {k: v for k, v in self.parameters().items() if v != defaults[k].default and k not in _PLACES}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        noise = self.noise if self.noise in _RATELESS else f"{self.noise}{self.noise_rate:g}"
        return f"{dataset_label(self.dataset)}-{noise}-{self.network}-seed{self.seed}-{digest}"

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
            check_known(str(name), value, known)
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
