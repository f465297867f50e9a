"""The training samples of a run: which are held out, which labels they carry, and the known-polluted probe."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from lib import noise
from lib.catalogue import NOISES
from lib.checks import ParameterError
from lib.data.dataset import Dataset
from lib.parameters import ROOT, Experiment
from lib.seeds import stream

_UNKNOWN = -1


@dataclass(frozen=True)
class Part:
    """Some rows of the training inputs with their labels; all of shape (n,).

    Attributes:
        rows: positions in `Dataset.x_train`, int64.
        given: labels as given, int64.
        true: true labels, int64; -1 where nobody knows them.
    """

    rows: torch.Tensor
    given: torch.Tensor
    true: torch.Tensor

    def __len__(self):
        return len(self.rows)

    @property
    def corrupted(self) -> torch.Tensor:
        """Whether the given label is known to be wrong, shape (n,)."""
        return self.known & (self.given != self.true)

    @property
    def known(self) -> torch.Tensor:
        """Whether the true label is known, shape (n,)."""
        return self.true != _UNKNOWN

    @property
    def rate(self) -> float:
        """Share of wrong labels among those whose truth is known; NaN where there are none."""
        return self.corrupted[self.known].double().mean().item()

    def take(self, positions: torch.Tensor) -> "Part":
        """The samples at some positions of this part."""
        return Part(self.rows[positions], self.given[positions], self.true[positions])


class Batch(NamedTuple):
    """Rows, labels as given, and places in (training samples, probe); all int64 of shape (n,)."""

    rows: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor


@dataclass(frozen=True)
class Samples:
    """What a run trains on and measures with. Rows index the one copy of the inputs; nothing is held twice.

    Attributes:
        train: samples trained on, without the probe.
        measured: those of them on which the signals are measured.
        probe: copies of training samples with other labels, trained on as well; None where not asked for.
        validation: held-out samples; None where not asked for.
    """

    train: Part
    measured: Part
    probe: Part | None
    validation: Part | None

    def batches(self, batch_size: int, seed: int, epoch: int) -> list[Batch]:
        """The batches of an epoch, in an order that seed and epoch alone determine."""
        parts = [self.train] if self.probe is None else [self.train, self.probe]
        rows = torch.cat([part.rows for part in parts])
        labels = torch.cat([part.given for part in parts])
        order = torch.from_numpy(stream(seed, "batches", epoch).permutation(len(rows))).to(rows.device)
        cuts = self.batches_per_epoch(batch_size)
        return [Batch(rows[places], labels[places], places) for places in order.tensor_split(cuts)]

    def batches_per_epoch(self, batch_size: int) -> int:
        """Equal batches that an epoch is cut into, none larger than batch_size."""
        total = len(self.train) + (len(self.probe) if self.probe else 0)
        return -(-total // batch_size)


def draw(experiment: Experiment, dataset: Dataset) -> Samples:
    """Draw label noise, held-out share, measured samples and probe, each from its own stream of the seed.

    Raises ParameterError where the dataset is too small for what is asked.
    """
    labels, known = dataset.y_train, NOISES[experiment.noise].known
    true = labels if known else torch.full_like(labels, _UNKNOWN)
    everything = Part(torch.arange(len(true), device=true.device), _noisy(experiment, dataset), true)
    held_out = round(experiment.validation_share * len(true))
    if experiment.validation_share and not 0 < held_out < len(true):
        raise ParameterError(f"validation_share={experiment.validation_share}: must leave samples on both sides")
    order = _permutation("validation", experiment.seed, everything)
    train = everything.take(order[held_out:].sort().values)
    validation = everything.take(order[:held_out].sort().values) if held_out else None
    measured = train.take(_fixed_order(train)[: experiment.signal_samples].sort().values)
    probe = None
    if experiment.asks_for("probe"):
        copied = train if experiment.probe_of == "all" else train.take((~train.corrupted).nonzero()[:, 0])
        size, seed = experiment.probe_size, experiment.seed
        positions, labels = noise.known_polluted_probe(copied.given, size, dataset.num_classes, seed)
        probe = replace(copied.take(positions), given=labels)
    return Samples(train, measured, probe, validation)


def _noisy(experiment: Experiment, dataset: Dataset) -> torch.Tensor:
    """The labels of all training samples with the experiment's noise."""
    true, row = dataset.y_train, NOISES[experiment.noise]
    if row.of_data:
        if dataset.given is None:
            without = f"y_train_noisy, or noisy_labels.csv in an image folder, which {experiment.dataset} lacks"
            raise ParameterError(f"noise={row.name!r}: must be used with data that holds {without}")
        return dataset.given
    if row.people_of:
        rows = None if dataset.train_rows is None else dataset.train_rows.numpy()
        folder = ROOT / experiment.data_folder
        human = row(experiment.dataset, experiment.noise, folder, true.cpu().numpy(), rows)
        return torch.from_numpy(human).to(true)
    given = {"labels": true, "rate": experiment.noise_rate, "num_classes": dataset.num_classes, "seed": experiment.seed}
    noisy = row(**given, inputs=dataset.x_train) if row.of_inputs else row(**given)
    return torch.as_tensor(noisy.labels)


def _fixed_order(part: Part) -> torch.Tensor:
    """The order in which samples are measured, the same for every seed: as they lie, but drawn where they lie by class.

    The first of samples that lie by class would be of a few classes alone. Where nobody knows their true class, they
    may lie by it.
    """
    if len(part.true.unique_consecutive()) > len(part.true.unique()):
        return torch.arange(len(part), device=part.rows.device)
    return _permutation("measured", 0, part)


def _permutation(purpose: str, seed: int, part: Part) -> torch.Tensor:
    return torch.from_numpy(stream(seed, purpose).permutation(len(part))).to(part.rows.device)
