"""Samples in whatever form a training has them, and networks in whatever form they take and give them."""

import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from .arrays import to_tensor
from .checks import ParameterError

LABELS = ("labels", "label", "targets", "target", "y")
INDICES = ("index", "indices", "idx")
_FORMS = "(x, y), (x, y, index), a dict with 'labels', or x alone"


class Batch(NamedTuple):
    """Some samples.

    Attributes:
        inputs: what the network takes: a tensor, several in a tuple, or a dict of them.
        labels: as given, shape (n,); None where the batch has none.
        places: index of each sample in the training set, integers of shape (n,); None where the batch has none.
    """

    inputs: Any
    labels: torch.Tensor | None = None
    places: torch.Tensor | None = None


class Indexed(Dataset[Any]):
    """A dataset whose samples tell their place: (x, y) becomes (x, y, index), and a dict has an "index" more."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int):
        sample = self.dataset[place]
        if isinstance(sample, Mapping):
            return {**sample, "index": place}
        return (*sample, place) if isinstance(sample, tuple | list) else (sample, place)


def batches(data, batch_size: int = 1000) -> Iterator[Batch]:
    """Batches of samples of any form.

    Args:
        data: all samples at once, as a tensor of shape (n, ...), a tuple of tensors (x, y) or (x, y, index), a dict of
            them, or a `Batch`; a `DataLoader` or any other iterable of batches; or a dataset.
        batch_size: samples in a batch, where they are not in batches already.

    Raises ParameterError for what is none of these, or has no sample.
    """
    empty = True
    for batch in _batches(data, batch_size):
        empty = False
        yield batch
    if empty:
        raise ParameterError("data: must have at least one sample")


def _batches(data, batch_size: int) -> Iterator[Batch]:
    if isinstance(data, Dataset):
        data = DataLoader(data, batch_size)
    if isinstance(data, torch.Tensor | np.ndarray | Mapping | Batch) or (isinstance(data, tuple) and _arrays(data)):
        whole = taken_apart(data)
        for first in range(0, samples(whole.inputs), batch_size):
            part = slice(first, first + batch_size)
            yield Batch(*(mapped(values, operator.itemgetter(part)) for values in whole))
    elif isinstance(data, Iterable) and not isinstance(data, str):
        yield from map(taken_apart, data)
    else:
        raise ParameterError(f"data of type {type(data).__name__}: must be tensors, a dataset, or batches of {_FORMS}")


def _arrays(parts) -> bool:
    return all(isinstance(part, torch.Tensor | np.ndarray) for part in parts)


def labelled(model: nn.Module, data, labels=None, batch_size: int = 1000) -> Iterator[tuple[Any, torch.Tensor]]:
    """Batch by batch: inputs of a network and labels, shape (n,), on its device.

    Args:
        model: any network.
        data: samples in any form that `batches` takes, or a batch as a `DataLoader` makes it: a list of tensors [x, y].
        labels: of all samples in their order, shape (n,); None: those in the batches.
        batch_size: as for `batches`.

    Raises ParameterError for samples without labels, or another number of labels than samples.
    """
    device, count = device_of(model), 0
    whole = None if labels is None else to_tensor(labels)
    if whole is None and isinstance(data, list) and _arrays(data):
        data = tuple(data)
    for batch in batches(data, batch_size):
        first, count = count, count + samples(batch.inputs)
        given = batch.labels if whole is None else whole[first:count]
        if given is None:
            raise ParameterError("labels=None: must be given where the batches have none")
        if len(given) != count - first:
            raise ParameterError(f"labels of {first + len(given)} samples: must be one for each, of which {count} came")
        yield moved(batch.inputs, device), moved(given, device)
    if whole is not None and len(whole) != count:
        raise ParameterError(f"labels of {len(whole)} samples: must be one for each, of which {count} came")


def taken_apart(batch) -> Batch:
    """Inputs, labels and index of a batch of any form. Raises ParameterError for another form."""
    if isinstance(batch, Batch):
        return batch
    if isinstance(batch, torch.Tensor | np.ndarray):
        return Batch(to_tensor(batch))
    if isinstance(batch, Mapping):
        labels, index = (next((name for name in names if name in batch), None) for names in (LABELS, INDICES))
        inputs = {name: value for name, value in batch.items() if name not in (labels, index)}
        return Batch(inputs, *(None if name is None else to_tensor(batch[name]) for name in (labels, index)))
    if isinstance(batch, tuple | list) and 1 <= len(batch) <= 3:
        first = batch[0]
        return Batch(to_tensor(first) if isinstance(first, np.ndarray) else first, *map(to_tensor, batch[1:]))
    raise ParameterError(f"batch of type {type(batch).__name__}: must be {_FORMS}")


def again(data):
    """The same data, which must give its batches more than once. Raises ParameterError where it can not."""
    if isinstance(data, Iterator):
        raise ParameterError(
            f"data of type {type(data).__name__}: must give its batches twice, as a list or DataLoader"
        )
    return data


def samples(inputs) -> int:
    """How many samples there are in the inputs of a network."""
    while not isinstance(inputs, torch.Tensor | np.ndarray):
        inputs = next(iter(inputs.values() if isinstance(inputs, Mapping) else inputs))
    return len(inputs)


def moved(inputs, device: torch.device):
    """The inputs on a device, without waiting for it."""
    return mapped(inputs, lambda values: values.to(device, non_blocking=True))


def mapped(values, function: Callable[[torch.Tensor], Any]):
    """The same inputs, with what a function makes of each tensor in them."""
    if isinstance(values, Mapping):
        return {name: mapped(value, function) for name, value in values.items()}
    if isinstance(values, tuple | list) and not hasattr(values, "_fields"):
        return type(values)(mapped(value, function) for value in values)
    if isinstance(values, np.ndarray):
        values = to_tensor(values)
    return function(values) if isinstance(values, torch.Tensor) else values


def device_of(model: nn.Module) -> torch.device:
    """Where the network's first weight or buffer is."""
    for values in (*model.parameters(), *model.buffers()):
        return values.device
    return torch.device("cpu")


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `DataParallel`, `DistributedDataParallel`, `AveragedModel` and `torch.compile`."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = model._modules["_orig_mod"]  # type: ignore[assignment]
        else:
            return model


def call(model: nn.Module, inputs):
    """What a network gives for inputs on its device, called with their `arguments`."""
    args, kwargs = arguments(model, inputs)
    return model(*args, **kwargs)


def arguments(model: nn.Module, inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with which a network is called, and those by name.

    Of a dict it is given, by name, what it takes; all of it where it takes one argument of another name. Several inputs
    in a tuple are its arguments, unless it takes one.
    """
    if isinstance(inputs, torch.Tensor):
        return (inputs,), {}
    parameters = list(inspect.signature(model.forward).parameters.values())
    if isinstance(inputs, Mapping):
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return (), dict(inputs)
        known = {name: inputs[name] for name in (parameter.name for parameter in parameters) if name in inputs}
        return ((), known) if known else ((inputs,), {})
    takes_one = len(parameters) == 1 and parameters[0].kind is not inspect.Parameter.VAR_POSITIONAL
    return ((inputs,) if takes_one and len(inputs) > 1 else tuple(inputs)), {}


def logits_of(output) -> torch.Tensor:
    """The logits, shape (n, K), in what a network gives: a tensor, the first in a tuple, or what "logits" names.

    Raises ParameterError where there are none.
    """
    if isinstance(output, torch.Tensor):
        return output
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, torch.Tensor):
        return named
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    first = next((value for value in values if isinstance(value, torch.Tensor)), None)
    if first is None:
        raise ParameterError(f"output of type {type(output).__name__}: must be logits, or hold them as 'logits'")
    return first
