"""A user's own data: arrays in an `.npz` file, or a folder of images.

An `.npz` file holds x_train, y_train, x_test, y_test and, if wanted, classes and source, see `lib.dataset.from_arrays`.
An image folder holds a folder a class in `train` and in `test` (or `val`):

    birds/train/robin/1.jpg    birds/train/wren/1.png    birds/test/robin/7.jpg    ...

On first use it is prepared into one file in the data folder; where an image changes it is prepared again.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib import prepared
from lib.checks import ParameterError
from lib.dataset import Dataset, from_arrays
from lib.parameters import ROOT, Experiment

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
    content = f"{size} " + " ".join(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file, _, _ in images)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    stem = re.sub(r"[^\w-]+", "_", path.name)
    file = ROOT / experiment.data_folder / f"{stem}-{digest}.npz"
    return from_arrays(prepared.prepared(file, lambda: _decoded(images, size, origin)), origin)


def _images(folder: Path, origin: str) -> list[tuple[Path, str, str]]:
    """Path, part (train or test) and class of every image."""
    found = []
    for part, names in (("train", ("train",)), ("test", ("test", "val"))):
        place = next((folder / name for name in names if (folder / name).is_dir()), None)
        if place is None:
            raise ParameterError(f"{origin}: must hold a folder {' or '.join(names)}, found none in {folder}")
        here = [
            (file, part, kind.name)
            for kind in sorted(place.iterdir())
            if kind.is_dir()
            for file in sorted(kind.rglob("*"))
            if file.suffix.lower() in _IMAGES
        ]
        if not here:
            raise ParameterError(f"{origin}: must hold a folder a class with images in it, found none in {place}")
        found += here
    trained = {kind for _, part, kind in found if part == "train"}
    unknown = sorted({kind for _, _, kind in found} - trained)
    if unknown:
        raise ParameterError(f"{origin}: test images must be of classes in train, not of {', '.join(unknown)}")
    return found


def _decoded(images: list[tuple[Path, str, str]], size: int, origin: str) -> dict[str, np.ndarray]:
    classes = sorted({kind for _, _, kind in images})
    pixels: dict[str, list] = {"train": [], "test": []}
    labels: dict[str, list] = {"train": [], "test": []}
    first = None
    for file, part, kind in tqdm(images, desc="images", unit="image", mininterval=1):
        image = decode(file, str(file), size)
        first = first or image.shape
        if image.shape != first:
            raise ParameterError(
                f"image_size=0: must be above 0 where images of {origin} differ in size, such as {file} with "
                f"{image.shape[1]}x{image.shape[0]} pixels"
            )
        pixels[part].append(image)
        labels[part].append(classes.index(kind))
    arrays = {f"x_{part}": np.stack(values) for part, values in pixels.items()}
    arrays |= {f"y_{part}": np.array(values, dtype=np.int64) for part, values in labels.items()}
    scaled = f", scaled to {size}x{size} pixels" if size else ""
    return arrays | {"classes": np.array(classes), "source": np.array(f"{origin.removeprefix('dataset=')}{scaled}")}


def decode(file, name: str, size: int = 0) -> np.ndarray:
    """An image as uint8, shape (height, width, 3).

    Args:
        file: path or open file.
        name: what errors call it.
        size: pixels of a side; the shorter side is scaled to it, the longer one cropped in the middle. 0: as it is.

    Raises:
        ParameterError: for a file that is no image, or cut.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            colour = image.convert("RGB")
            return np.asarray(ImageOps.fit(colour, (size, size)) if size else colour)
    except OSError as error:
        raise ParameterError(f"dataset: {name} must be an image; {error}; mend or delete it") from error
