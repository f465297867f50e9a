"""A user's own data: arrays in an `.npz` file, or a folder of images.

An `.npz` file holds x_train, y_train and, if wanted, x_test and y_test, classes and source, see
`lib.data.dataset.from_arrays`.
An image folder holds a folder a class in `train` and in `test` (or `val`):

    birds/train/robin/1.jpg    birds/train/wren/1.png    birds/test/robin/7.jpg    ...

Labels that are noisy already lie beside the true ones: y_train_noisy in the file, or `noisy_labels.csv` in the folder,
whose columns file (below train) and class name every training image. `noise="given"` trains on them. Where there are no
true ones, `noise="unknown"` trains on the labels that are there. Test accuracy is measured against the labels that the
test set has; where there is none, no array or folder of that name, training goes without.

On first use it is prepared into one file in the data folder; where an image changes it is prepared again.
"""

import os
import re
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from lib.checks import ParameterError, found
from lib.data import prepared
from lib.data.dataset import Dataset, from_arrays
from lib.files import digest, there
from lib.parameters import ROOT, Experiment

_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"}
_THREADS = 2
_TEST = r"(^|_)(test|val)(_|$)"  # in the name of an array: it is a test set, or meant as one
NOISY_LABELS = "noisy_labels.csv"


class Picture(NamedTuple):
    """An image file (a path, also one in a zip file), its part of the data, train or test, and its class."""

    file: Path
    part: str
    label: str


def load(experiment: Experiment) -> Dataset:
    """The data at the path that the experiment's `dataset` names. Raises ParameterError."""
    path, origin, axes = ROOT / experiment.dataset, f"dataset={experiment.dataset!r}", experiment.layout
    if path.suffix == ".npz" and path.is_file():
        fault = "is damaged, or no .npz file of plain arrays; text must be of dtype str, not object"
        arrays = prepared.read(path, origin, fault)
    elif path.is_dir():
        arrays, axes = _folder(experiment, path, origin), "channels_last" if axes == "auto" else axes
    else:
        none = f"a file of another kind at {path}" if path.exists() else f"none at {path}; {there(path)}"
        raise ParameterError(f"{origin}: must be an .npz file or a folder of images, found {none}")
    read = partial(from_arrays, origin=origin, axes=axes, scaling=experiment.scaling)
    tested = any(re.search(_TEST, name.lower()) and values.size for name, values in arrays.items())
    if tested or not {"x_train", "y_train"} <= arrays.keys():
        return read(arrays)
    # Read as if the first training sample were the test set, which then is left empty.
    first = {f"{name}_test": np.atleast_1d(arrays[f"{name}_train"])[:1] for name in ("x", "y")}
    dataset, nothing = read(arrays | first), torch.arange(0)
    x_test, y_test, source = dataset.x_test.take(nothing), dataset.y_test[nothing], f"{dataset.source}, no test set"
    return replace(dataset, x_test=x_test, y_test=y_test, source=source)


def fingerprint(experiment: Experiment) -> str:
    """What tells other data at the same path: sizes and dates of its files. Empty where there is none."""
    path = ROOT / experiment.dataset
    if path.is_dir():
        files = [picture.file for picture in _pictures(path, f"dataset={experiment.dataset!r}")]
        return digest(_state([*files, *path.glob(NOISY_LABELS)]))
    return digest(_state([path])) if path.exists() else ""


def _state(files: list[Path]) -> str:
    return repr([(os.fsencode(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files])


def _folder(experiment: Experiment, path: Path, origin: str) -> dict[str, np.ndarray]:
    """The arrays of an image folder, prepared in one file; those of its earlier states go."""
    pictures, size = _pictures(path, origin), experiment.image_size
    stem = f"{re.sub(r'[^A-Za-z0-9_]+', '_', path.name)}-{digest(repr([os.fsencode(path)]))}-{size}"
    table = path / NOISY_LABELS
    files = [picture.file for picture in pictures] + ([table] if table.exists() else [])
    state = digest(_state(files))
    file = ROOT / experiment.data_folder / f"{stem}-{state}.npz"

    def compute() -> dict[str, np.ndarray]:
        classes = sorted({picture.label for picture in pictures})
        scaled = f", scaled to {size}x{size} pixels" if size else ""
        arrays = decoded(pictures, classes, size) | {"source": np.array(f"image folder {path.name}{scaled}")}
        return arrays | (_noisy_labels(table, pictures, classes) if table.exists() else {})

    arrays = prepared.prepared(file, compute)
    for outdated in set(file.parent.glob(f"{stem}-*.npz")) - {file}:
        with suppress(OSError):
            outdated.unlink()
    return arrays


def _noisy_labels(table: Path, pictures: list[Picture], classes: list[str]) -> dict[str, np.ndarray]:
    """The array y_train_noisy from a table of the columns file and class."""
    try:
        given = pd.read_csv(table, dtype=str, keep_default_na=False).set_index("file")["class"]
    except (ValueError, KeyError, OSError) as error:
        raise ParameterError(f"dataset: {table} must be a table of the columns file and class ({error})") from error
    trained = [picture.file for picture in pictures if picture.part == "train"]
    files = [file.relative_to(table.parent / "train").as_posix() for file in trained]
    numbers = pd.Index(classes).get_indexer(given[~given.index.duplicated()].reindex(files))
    if (numbers < 0).any():
        first = files[int((numbers < 0).argmax())]
        raise ParameterError(f"dataset: {table} must give every training image one of {', '.join(classes)}, as {first}")
    return {"y_train_noisy": numbers}


def _pictures(folder: Path, origin: str) -> list[Picture]:
    """Every image of a folder with a folder a class in `train` and in `test` or `val`."""
    pictures = []
    for part, names in (("train", ("train",)), ("test", ("test", "val"))):
        place = next((folder / name for name in names if (folder / name).is_dir()), None)
        others = {one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")} - {"train"}
        if place is None and part == "test" and not others:
            continue  # and none that was meant as one
        if place is None:
            raise ParameterError(f"{origin}: must hold a folder {' or '.join(names)}; {there(folder / names[0])}")
        kinds = sorted(kind for kind in place.iterdir() if kind.is_dir() and not kind.name.startswith("."))
        for kind in kinds or [place / "*"]:
            files = [file for file in sorted(kind.rglob("*")) if file.suffix.lower() in _SUFFIXES and file.is_file()]
            here = [Picture(file, part, kind.name) for file in files if not file.name.startswith(".")]
            if not here:
                raise ParameterError(f"{origin}: must hold a folder a class with images in it; {there(kind / '*')}")
            pictures += here
    trained = {picture.label for picture in pictures if picture.part == "train"}
    unknown = sorted({picture.label for picture in pictures} - trained)
    if unknown:
        those = f"{', '.join(unknown)}; {found(unknown[0], trained)}"
        raise ParameterError(f"{origin}: test images must be of classes in train, not of {those}")
    return pictures


def decoded(
    pictures: list[Picture], classes: list[str], size: int = 0, shape: tuple[int, int, int] | None = None
) -> dict[str, np.ndarray]:
    """Arrays of images, decoded side by side.

    Args:
        classes: labels in the order of their numbers.
        size: as in `decode`.
        shape: of every image; None: that of the first.

    Returns:
        x_train, x_test: uint8, shape (n, height, width, 3); y_train, y_test: int64; classes.

    Raises:
        ParameterError: for a file that is no image, or of another shape.
    """
    shape = shape or decode(pictures[0].file, size).shape
    arrays = {"classes": np.array(classes)}
    for part in ("train", "test"):
        here = [picture for picture in pictures if picture.part == part]
        arrays[f"x_{part}"] = np.empty((len(here), *shape), dtype=np.uint8)
        arrays[f"y_{part}"] = pd.Index(classes).get_indexer([picture.label for picture in here])
        files = [picture.file for picture in here]
        # Decoding lets go of the interpreter lock; reading a zip file does not go side by side, nor need it.
        bar = {"desc": f"{part} images", "unit": "image", "tqdm_class": tqdm}
        thread_map(partial(_decode_into, size=size), arrays[f"x_{part}"], files, max_workers=_THREADS, **bar)
    return arrays


def _decode_into(pixels: np.ndarray, file: Path, size: int) -> None:
    image = decode(file, size)
    if image.shape != pixels.shape:
        wanted, seen = (f"{width}x{height}" for height, width, _ in (pixels.shape, image.shape))
        raise ParameterError(
            f"dataset: {file} must have {wanted} pixels, not {seen}; image_size scales your own images"
        )
    pixels[:] = image


def decode(file: Path, size: int = 0) -> np.ndarray:
    """An image as uint8, shape (height, width, 3), turned upright where the camera noted how it was held.

    Where `size` is not 0, its shorter side is scaled to so many pixels, the longer one cropped in the middle. Raises
    ParameterError for a file that is no image of 8 bits a channel, or cut.
    """
    from PIL import Image, ImageOps

    try:
        with file.open("rb") as raw, Image.open(raw) as image:
            if image.mode not in _MODES:
                raise ParameterError(f"dataset: {file} must be an image of 8 bits a channel, not of mode {image.mode}")
            colour = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(ImageOps.fit(colour, (size, size)) if size else colour)
    except ParameterError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = " ".join(str(error).split())
        raise ParameterError(f"dataset: {file} must be an image; {why}; mend or delete it") from error
