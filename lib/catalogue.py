"""Everything that parameters name, a row each: datasets, noises, networks, losses, criteria.

Whatever else must know of a thing reads its row: the checks of parameters, loading, training, tables, figures, explorer
and report. A row says which function does the work as "module:function" below this package, imported when it is first
called, so that the catalogue itself costs nothing; a user's own row holds the function itself.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, TypeVar

from .checks import ParameterError


@dataclass(frozen=True)
class Row:
    """A thing that a parameter can name; calling the row calls its function.

    Attributes:
        name: the value of the parameter.
        label: how tables, figures and texts call it.
        function: that does the work, or where it is, as "module:function".
    """

    name: str
    label: str
    function: Callable[..., Any] | str

    @cached_property
    def work(self) -> Callable[..., Any]:
        """The function."""
        if callable(self.function):
            return self.function
        module, _, name = self.function.partition(":")
        return getattr(import_module(f".{module}", __package__), name)

    @property
    def own(self) -> bool:
        """Whether it is a user's own."""
        return callable(self.function)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.work(*arguments, **options)


Kind = TypeVar("Kind", bound=Row)


class Catalogue(dict[str, Kind]):
    """Rows by name, in the order of tables and legends."""

    def __init__(self, *rows: Kind):
        super().__init__((row.name, row) for row in rows)

    def add(self, row: Kind) -> None:
        """Make a user's own known. Raises ParameterError for a name that can be no part of a folder's."""
        if not re.fullmatch(r"\w[\w-]*", row.name):
            raise ParameterError(f"name={row.name!r}: must be letters, digits, _ and -")
        self[row.name] = row

    def label(self, name: str) -> str:
        """How texts call a name; itself where it has no row here."""
        return self[name].label if name in self else name


class Stopping(NamedTuple):
    """Patience and window in records, and CND's quantile over neurons."""

    patience: int
    window: int
    quantile: float


@dataclass(frozen=True)
class Dataset(Row):
    """A dataset; its function takes an `Experiment` and gives a `lib.data.Dataset`.

    Attributes:
        published: patience, window and quantile of the final simulations, where there are such.
        of_images: whether its samples are images.
    """

    published: Stopping | None = None
    of_images: bool = True


@dataclass(frozen=True)
class Noise(Row):
    """Label noise; its function takes labels, rate, num_classes and seed by name, and gives a `lib.noise.Noisy`.

    Attributes:
        rated: whether it has a rate; the others bring their own.
        of_inputs: whether its function takes the inputs too.
        of_data: whether the labels lie in the data itself, beside the true ones; its function compares them, and is
            not called by a training.
        known: whether it is known which labels are wrong.
        exact: whether the realised rate is the one asked for.
        people_of: the dataset that human labels belong to; their function takes what `lib.data.human_labels.load` does.
        colours: in figures, a map of matplotlib's, pale at a low rate and dark at a high one.
    """

    rated: bool = True
    of_inputs: bool = False
    of_data: bool = False
    known: bool = True
    exact: bool = False
    people_of: str = ""
    colours: str = "Purples"

    def title(self, rate: float) -> str:
        """How tables and figures call the noise at a rate."""
        return f"{self.label} {100 * rate:g}%" if self.rated else self.label


@dataclass(frozen=True)
class Network(Row):
    """A network; its function takes (sample_shape, num_classes, dropout) and gives an `nn.Module`.

    Attributes:
        of_images: whether it takes images alone.
    """

    of_images: bool = False


@dataclass(frozen=True)
class Criterion(Row):
    """A way to choose the record to keep; its function takes a `lib.training.signals.View` and gives a number.

    Attributes:
        mode: "max" or "min", the extremum looked for, "above_zero", or "median" of its members.
        unit: of the signal's values, for axes.
        colour, marker: in figures.
        needs: what must be there for it: "layer" (pre-activations are recorded), "probe", "validation", "average" or
            "truth" (true labels are known).
        members: criteria whose stops it is the median of; such a criterion has no signal of its own.
        window, patience: of its members, in records; a run of fewer than `least_records` is stopped by its own.
    """

    mode: str
    unit: str
    colour: str = "#444444"
    marker: str = "o"
    needs: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    window: int = 0
    patience: int = 0

    @property
    def least_records(self) -> int:
        """Of a run that is stopped by this window and patience."""
        return 5 * self.window


OF_CIFAR = Stopping(10, 5, 0.9)
DATASETS = Catalogue(
    Dataset("digits", "Digits", "data.loading:digits"),
    Dataset("news", "NEWS", "data.news:load", Stopping(100, 4, 0.1), of_images=False),
    Dataset("cifar10", "CIFAR-10", "data.vision:load", OF_CIFAR),
    Dataset("cifar100", "CIFAR-100", "data.vision:load", OF_CIFAR),
    Dataset("cifar100_coarse", "CIFAR-100 coarse", "data.vision:load"),
    Dataset("mnist", "MNIST", "data.vision:load"),
    Dataset("fashion_mnist", "Fashion-MNIST", "data.vision:load"),
    Dataset("svhn", "SVHN", "data.vision:load"),
    Dataset("tiny_imagenet", "Tiny ImageNet", "data.tiny_imagenet:load"),
)

_PEOPLE = "data.human_labels:load"
NOISES = Catalogue(
    Noise("none", "clean labels", "noise:none", rated=False, exact=True, colours="Greys"),
    Noise("symmetric", "symmetric", "noise:symmetric", exact=True, colours="Blues"),
    Noise("pair", "pair", "noise:pair", exact=True, colours="Oranges"),
    Noise("instance", "instance", "noise:instance", of_inputs=True, colours="Greens"),
    Noise("worse_label", "CIFAR-10N worse", _PEOPLE, rated=False, people_of="cifar10"),
    Noise("aggre_label", "CIFAR-10N aggregate", _PEOPLE, rated=False, people_of="cifar10"),
    Noise("random_label1", "CIFAR-10N random 1", _PEOPLE, rated=False, people_of="cifar10"),
    Noise("random_label2", "CIFAR-10N random 2", _PEOPLE, rated=False, people_of="cifar10"),
    Noise("random_label3", "CIFAR-10N random 3", _PEOPLE, rated=False, people_of="cifar10"),
    Noise("noisy_label", "CIFAR-100N fine", _PEOPLE, rated=False, people_of="cifar100"),
    Noise("noisy_coarse_label", "CIFAR-100N coarse", _PEOPLE, rated=False, people_of="cifar100_coarse"),
    Noise("given", "labels as given", "noise:compare", rated=False, of_data=True),
    Noise("unknown", "truth unknown", "noise:none", rated=False, known=False),
)

NETWORKS = Catalogue(
    Network("mlp", "MLP", "models:mlp"),
    Network("small_cnn", "small CNN", "models:small_cnn", of_images=True),
    Network("narrow_airbench", "narrow airbench", "models:narrow_airbench", of_images=True),
    Network("news_mlp", "NEWS MLP", "models:news_mlp"),
    Network("lenet", "LeNet", "models:lenet", of_images=True),
    Network("preact_resnet9", "PreAct ResNet-9", "models:preact_resnet9", of_images=True),
    Network("preact_resnet18", "PreAct ResNet-18", "models:preact_resnet18", of_images=True),
    Network("preact_resnet34", "PreAct ResNet-34", "models:preact_resnet34", of_images=True),
    Network("preact_resnet110", "PreAct ResNet-110", "models:preact_resnet110", of_images=True),
    Network("resnet18", "ResNet-18", "models:resnet18", of_images=True),
    Network("resnet50", "ResNet-50", "models:resnet50", of_images=True),
    Network("vit", "ViT-Tiny", "models:vit", of_images=True),
)

LOSSES = Catalogue(
    Row("cross_entropy", "cross entropy", "losses:cross_entropy"),
    Row("mean_absolute_error", "mean absolute error", "losses:mean_absolute_error"),
)


def _criterion(name: str, label: str, mode: str, unit: str, colour: str, marker: str, *needs: str) -> Criterion:
    return Criterion(name, label, f"training.signals:{name}", mode, unit, colour, marker, needs)


_CLEAN = ("validation", "truth")
_MEMBERS = ("prediction_changes", "known_polluted_accuracy", "average_disagreement")
# Colours of seaborn's colour-blind palette without those that fade on white; the later ones, darker, differ in markers.
# The three of mode "max" that rose from first to last record on digits at 40 % (seeds 100 and 101) do not stop there.
CRITERIA = Catalogue(
    _criterion("cnd", "CND", "max", "bits", "#0173b2", "o", "layer"),
    _criterion("prediction_changes", "PC", "min", "share", "#de8f05", "s"),
    _criterion("known_polluted_accuracy", "KPA", "min", "accuracy", "#029e73", "D", "probe"),
    _criterion("known_polluted_log_likelihood", "KPA log-lik.", "min", "nats", "#d55e00", "^", "probe"),
    _criterion("validation_accuracy_noisy", "Val. noisy", "max", "accuracy", "#cc78bc", "v", "validation"),
    _criterion("validation_accuracy_clean", "Val. clean", "max", "accuracy", "#ca9161", "P", *_CLEAN),
    _criterion("prediction_changes_long", "PC long", "min", "share", "#fbafe4", "X"),
    _criterion("forgetting_events", "Forgetting", "min", "share", "#56b4e9", "<"),
    _criterion("area_under_margin", "AUM", "max", "logits", "#01456b", ">"),
    _criterion("firing_frequency", "Firing", "min", "share", "#855603", "p", "layer"),
    _criterion("loss_sensitivity", "LS", "max", "nats/unit", "#015f45", "h"),
    _criterion("batch_loss_sensitivity", "LS batch", "max", "nats/unit", "#803800", "H"),
    _criterion("critical_sample_ratio", "CSR", "max", "share", "#7a4871", "d"),
    _criterion("von_neumann_entropy", "von Neumann", "max", "nats", "#79573a", "8"),
    _criterion("edge_entropy", "Shannon", "max", "nats", "#976989", "o"),
    _criterion("gradient_disparity", "GD", "min", "distance", "#346c8c", "*"),
    _criterion("evidence", "Evidence", "above_zero", "1", "#8e871f", "s"),
    _criterion("average_disagreement", "Disagreement", "min", "share", "#6a3d9a", "D", "average"),
    _criterion("validation_accuracy_clean_average", "Val. avg.", "max", "accuracy", "#ca9161", "d", *_CLEAN, "average"),
    _criterion("cnd_average", "CND avg.", "max", "bits", "#0173b2", "d", "layer", "average"),
    _criterion("prediction_changes_average", "PC avg.", "min", "share", "#de8f05", "d", "average"),
    _criterion("known_polluted_log_likelihood_average", "KPA avg.", "min", "nats", "#d55e00", "d", "probe", "average"),
    # Members, window and patience were chosen in notebooks/consensus.ipynb.
    Criterion("consensus", "Consensus", "stopping:Consensus", "median", "record", "#000000", "P", (), _MEMBERS, 8, 5),
)

ORACLE, END = "oracle", "end"
AVERAGE = ":average"
"""Behind the name of a criterion: the method that keeps the average of the weights where the criterion stops."""


class _Labels(Mapping[str, str]):
    """Labels of the criteria, whichever are known by now, with either network kept, and of the two references."""

    _references: ClassVar = {END: "No stopping", ORACLE: "Oracle"}

    def __getitem__(self, name: str) -> str:
        if name.endswith(AVERAGE):
            return f"{self[name.removesuffix(AVERAGE)]}, average kept"
        return self._references.get(name) or CRITERIA[name].label

    def __iter__(self) -> Iterator[str]:
        return iter((*CRITERIA, *self._references))

    def __len__(self) -> int:
        return len(CRITERIA) + len(self._references)


LABELS = _Labels()
"""What tables and figures call each criterion, with the two references: the last record, and the best one."""


def noise_title(noise: str, rate: float) -> str:
    """How tables and figures call a kind and rate of noise."""
    return NOISES[noise].title(rate) if noise in NOISES else f"{noise} {100 * rate:g}%"


def noise_place(noise: str) -> int:
    """Place of a kind of noise in tables and figures: clean labels, synthetic kinds, human labels."""
    return list(NOISES).index(noise) if noise in NOISES else len(NOISES)
