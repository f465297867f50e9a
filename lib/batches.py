"""Samples in whatever form a training has them, and networks in whatever form they take and give them."""

import inspect
import operator
from collections.abc import Iterable, Iterator, Mapping
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
        data: all samples at once, as a tensor of shape (n, ...), a tuple of tensors (x, y) or (x, y, index), or a dict
            of them; a `DataLoader` or any other iterable of batches; or a dataset.
        batch_size: samples in a batch, where they are not in batches already.

    Raises ParameterError for what is none of these.
    """
    if isinstance(data, Dataset):
        data = DataLoader(data, batch_size)
    at_once = isinstance(data, tuple) and all(isinstance(part, torch.Tensor | np.ndarray) for part in data)
    if at_once or isinstance(data, torch.Tensor | np.ndarray | Mapping):
        whole = taken_apart(data)
        for first in range(0, samples(whole.inputs), batch_size):
            part = slice(first, first + batch_size)
            yield Batch(*(_mapped(values, operator.itemgetter(part)) for values in whole))
    elif isinstance(data, Iterable) and not isinstance(data, str):
        yield from map(taken_apart, data)
    else:
        raise ParameterError(f"data of type {type(data).__name__}: must be tensors, a dataset, or batches of {_FORMS}")


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
    while not isinstance(inputs, torch.Tensor):
        inputs = next(iter(inputs.values() if isinstance(inputs, Mapping) else inputs))
    return len(inputs)


def moved(inputs, device: torch.device):
    """The inputs on a device, without waiting for it."""
    return _mapped(inputs, lambda values: values.to(device, non_blocking=True))


def _mapped(values, function):
    if isinstance(values, Mapping):
        return {name: _mapped(value, function) for name, value in values.items()}
    if isinstance(values, tuple | list) and not hasattr(values, "_fields"):
        return type(values)(_mapped(value, function) for value in values)
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
    """What a network gives for inputs on its device.

    Of a dict it is given, by name, what it takes; all of it where it takes one argument of another name. Several inputs
    in a tuple are its arguments, unless it takes one.
    """
    if isinstance(inputs, torch.Tensor):
        return model(inputs)
    parameters = inspect.signature(model.forward).parameters.values()
    if isinstance(inputs, Mapping):
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            return model(**inputs)
        known = {name: inputs[name] for name in (parameter.name for parameter in parameters) if name in inputs}
        return model(**known) if known else model(inputs)
    return model(inputs) if len(parameters) == 1 and len(inputs) > 1 else model(*inputs)


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
