"""A user's own data: arrays in an `.npz` file, or a folder of images.

An `.npz` file holds x_train, y_train, x_test, y_test and, if wanted, classes and source, see
`lib.data.dataset.from_arrays`.
An image folder holds a folder a class in `train` and in `test` (or `val`):

    birds/train/robin/1.jpg    birds/train/wren/1.png    birds/test/robin/7.jpg    ...

On first use it is prepared into one file in the data folder; where an image changes it is prepared again.
"""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.checks import ParameterError
from lib.data import prepared
from lib.data.dataset import Dataset, from_arrays
from lib.parameters import ROOT, Experiment

_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"}


def load(experiment: Experiment) -> Dataset:
    """The data at the path that the experiment's `dataset` names. Raises ParameterError."""
    path = ROOT / experiment.dataset
    origin = f"dataset={experiment.dataset!r}"
    if path.suffix == ".npz":
        if not path.is_file():
            raise ParameterError(f"{origin}: must be an .npz file, found none at {path}")
        return from_arrays(prepared.read(path, origin, "is damaged, or no .npz file of arrays"), origin)
    if not path.is_dir():
        raise ParameterError(f"{origin}: must be an .npz file or a folder of images, found none at {path}")
    images = _images(path, origin)
    size = experiment.image_size
    stem = f"{re.sub(r'[^A-Za-z0-9_]+', '_', path.name)}-{_digest([os.fsencode(path)])}"
    file = ROOT / experiment.data_folder / f"{stem}-{_digest([size, *_state(images)])}.npz"
    arrays = prepared.prepared(file, lambda: _decoded(images, size, origin, path.name))
    for outdated in set(file.parent.glob(f"{stem}-*.npz")) - {file}:
        with suppress(OSError):
            outdated.unlink()
    return from_arrays(arrays, origin)


def fingerprint(experiment: Experiment) -> str:
    """What tells other data at the same path: sizes and dates of its files. Empty where there is none."""
    path = ROOT / experiment.dataset
    if path.is_dir():
        return _digest(_state(_images(path, f"dataset={experiment.dataset!r}")))
    return _digest(_state([(path, "", "")])) if path.exists() else ""


def _state(images: list[tuple[Path, str, str]]) -> list:
    return [(os.fsencode(file), file.stat().st_size, file.stat().st_mtime_ns) for file, _, _ in images]


def _digest(parts: list) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def _images(folder: Path, origin: str) -> list[tuple[Path, str, str]]:
    """Path, part (train or test) and class of every image."""
    found = []
    for part, names in (("train", ("train",)), ("test", ("test", "val"))):
        place = next((folder / name for name in names if (folder / name).is_dir()), None)
        if place is None:
            raise ParameterError(f"{origin}: must hold a folder {' or '.join(names)}, found none in {folder}")
        kinds = sorted(kind for kind in place.iterdir() if kind.is_dir() and not kind.name.startswith("."))
        if not kinds:
            raise ParameterError(f"{origin}: must hold a folder a class with images in it, found none in {place}")
        for kind in kinds:
            files = [file for file in sorted(kind.rglob("*")) if file.suffix.lower() in _IMAGES and file.is_file()]
            here = [(file, part, kind.name) for file in files if not file.name.startswith(".")]
            if not here:
                raise ParameterError(f"{origin}: must hold images of every class, found none in {kind}")
            found += here
    trained = {kind for _, part, kind in found if part == "train"}
    unknown = sorted({kind for _, _, kind in found} - trained)
    if unknown:
        raise ParameterError(f"{origin}: test images must be of classes in train, not of {', '.join(unknown)}")
    return found


def _decoded(images: list[tuple[Path, str, str]], size: int, origin: str, name: str) -> dict[str, np.ndarray]:
    classes = sorted({kind for _, _, kind in images})
    arrays: dict[str, np.ndarray] = {"classes": np.array(classes)}
    shape = decode(images[0][0], str(images[0][0]), size).shape
    with tqdm(total=len(images), desc="images", unit="image", mininterval=1) as bar:
        for part in ("train", "test"):
            here = [(file, kind) for file, of, kind in images if of == part]
            pixels = arrays[f"x_{part}"] = np.empty((len(here), *shape), dtype=np.uint8)
            arrays[f"y_{part}"] = np.array([classes.index(kind) for _, kind in here], dtype=np.int64)
            for row, (file, _) in enumerate(here):
                image = decode(file, str(file), size)
                if image.shape != shape:
                    raise ParameterError(
                        f"image_size=0: must be above 0 where images of {origin} differ in size, such as {file} with "
                        f"{image.shape[1]}x{image.shape[0]} pixels"
                    )
                pixels[row] = image
                bar.update()
    scaled = f", scaled to {size}x{size} pixels" if size else ""
    return arrays | {"source": np.array(f"image folder {name}{scaled}")}


def decode(file, name: str, size: int = 0, parameter: str = "dataset") -> np.ndarray:
    """An image as uint8, shape (height, width, 3), turned upright where the camera noted how it was held.

    Args:
        file: path or open file.
        name: what errors call it.
        size: pixels of a side; the shorter side is scaled to it, the longer one cropped in the middle. 0: as it is.
        parameter: that errors name.

    Raises:
        ParameterError: for a file that is no image of 8 bits a channel, or cut.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if image.mode not in _MODES:
                raise ParameterError(
                    f"{parameter}: {name} must be an image of 8 bits a channel, not of mode {image.mode}"
                )
            colour = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(ImageOps.fit(colour, (size, size)) if size else colour)
    except ParameterError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = " ".join(str(error).split())
        raise ParameterError(f"{parameter}: {name} must be an image; {why}; mend or delete it") from error
