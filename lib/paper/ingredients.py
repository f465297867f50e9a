"""What a training starts from, to be looked at: its samples, its label noise, its network."""

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import nn

from lib.data.dataset import Dataset
from lib.data.samples import Part
from lib.paper.figures import WIDTH

WRONG = "#d55e00"
"""Colour of what is wrong: frames and words of samples, and shares of wrong labels."""
_NAMED, _NUMBERED = 20, 10  # classes whose names, and whose shares in numbers, a matrix has room for
_COLUMNS = 6


def spread(part: Part, count: int = 12) -> Part:
    """Some samples of a part, from its first to its last at even distances: the part may be sorted by class."""
    places = np.linspace(0, len(part) - 1, min(count, len(part))).round().astype(np.int64)
    return part.take(torch.from_numpy(places).to(part.rows.device))


def samples(dataset: Dataset, part: Part, count: int = 12) -> Figure:
    """Some samples with the label that each is given; a wrong one is framed, and the true label told below it.

    Where nobody knows the true labels, none is.
    """
    shown = spread(part, count)
    rows = -(-len(shown) // _COLUMNS)
    size = (WIDTH, rows * (WIDTH / _COLUMNS + 0.28))
    figure, grid = plt.subplots(rows, _COLUMNS, figsize=size, squeeze=False, layout="none")
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - 0.36 / size[1], wspace=0.12, hspace=0.42)
    for axis in grid.flat[len(shown) :]:
        axis.set_visible(False)
    labels = zip(shown.given.tolist(), shown.true.tolist(), shown.corrupted.tolist(), strict=True)
    for axis, values, (given, true, wrong) in zip(grid.flat, dataset.x_train.stored[shown.rows], labels, strict=False):
        told = short(dataset.classes[given]) + (f"\ntruly {short(dataset.classes[true], 12)}" if wrong else "")
        sample(axis, values, told, wrong)
    return figure


def sample(axis: Axes, values: torch.Tensor, title: str = "", wrong: bool = False) -> None:
    """One sample as it is stored: an image (height, width, channels), or the profile of any other numbers."""
    numbers = values.cpu().float().numpy()
    if numbers.ndim == 3 and numbers.shape[2] in (1, 3, 4):
        axis.imshow(numbers / max(float(numbers.max()), 1e-12), cmap="gray_r", aspect="equal")
    else:
        axis.plot(numbers.flatten(), color="0.4", lw=0.5)
        axis.set_box_aspect(1)
    axis.grid(visible=False)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, color=WRONG if wrong else "k", fontsize=7, pad=3)
    axis.spines[:].set(visible=wrong, color=WRONG, linewidth=2)


def noise_matrix(
    axis: Axes, shares: np.ndarray, classes: Sequence[str], title: str = "", largest: float | None = None
) -> None:
    """Draw a noise transition matrix in percent; wrong labels in colour, on a scale of their own, right ones in grey.

    Args:
        axis: to draw on.
        shares: share of each true class (rows) that carries each given label (columns), shape (K, K), see
            `lib.noise.transition_matrix`.
        classes: name of each class; told where there is room for them.
        title: of the panel.
        largest: share at the end of the colours; None: the largest share of a wrong label.
    """
    count = len(shares)
    right = np.eye(count, dtype=bool)
    wrong = 100 * np.ma.masked_where(right, shares)
    scale = 100 * (largest or np.nan_to_num(wrong.filled(0)).max() / 100 or 1)
    axis.imshow(np.ma.masked_where(~right, shares), cmap=ListedColormap(["0.85"]))
    image = axis.imshow(wrong, cmap="Oranges", vmin=0, vmax=scale)
    axis.grid(visible=False)
    axis.set(title=title, xlabel="Given label", ylabel="True label", xticks=[], yticks=[])
    if count <= _NAMED:
        names, size = [short(name) for name in classes], 7 if count <= _NUMBERED else 5.5
        axis.set_xticks(range(count), names, rotation=90, fontsize=size)
        axis.set_yticks(range(count), names, fontsize=size)
    if count > _NUMBERED:
        axis.figure.colorbar(image, ax=axis, label="% of the true class", shrink=0.8)
        return
    for true, given in np.argwhere(np.nan_to_num(shares) >= 0.005):
        dark = true != given and wrong[true, given] > 0.6 * scale
        share = f"{100 * shares[true, given]:.0f}"
        axis.text(given, true, share, ha="center", va="center", fontsize=6, color="w" if dark else "k")


def network(model: nn.Module, layers: dict[str, int]) -> pd.DataFrame:
    """A row a part of a network, in the order of definition; sequences are opened, blocks are one part each.

    Args:
        model: the network.
        layers: neurons of each layer whose divergence is recorded.

    Returns:
        By name: module (or Parameter), parameters, and cnd_neurons, the neurons in it whose divergence is recorded.
    """
    rows = {
        name: {
            "module": module,
            "parameters": parameters,
            "cnd_neurons": sum(n for layer, n in layers.items() if layer == name or layer.startswith(f"{name}.")),
        }
        for name, module, parameters in _parts(model)
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["module", "parameters", "cnd_neurons"])


def _parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, str, int]]:
    """Name, module and number of parameters of each part."""
    for name, weights in module.named_parameters(prefix.rstrip("."), recurse=False):
        yield name, type(weights).__name__, weights.numel()
    for name, part in module.named_children():
        if isinstance(part, nn.Sequential | nn.ModuleList):
            yield from _parts(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", type(part).__name__, sum(weights.numel() for weights in part.parameters())


def short(name: str, letters: int = 17) -> str:
    """A class's name in the room that there is."""
    name = name.replace("_", " ")
    return name if len(name) <= letters else f"{name[: letters - 1].rstrip()}…"
