"""Tiny ImageNet: 200 classes of 64x64 images, from its official archive or the folder that it unpacks to.

The official test labels are not public; as everywhere, its validation images serve as the test set. The training images
of each class lie in `train/<wnid>/images`, the labels of the validation images in `val/val_annotations.txt`.
"""

import io
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.checks import ParameterError
from lib.data.downloads import Archive, fetch
from lib.data.own import decode

FOLDER = "tiny-imagenet-200"
ARCHIVE = Archive(
    f"{FOLDER}.zip", "90528d7ca1a48142e341f4ef8d21d0de", ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",)
)
STATISTICS = [0.4802, 0.4481, 0.3975], [0.2770, 0.2691, 0.2821]
"""Published mean and standard deviation of each channel, on the scale [0, 1]."""
CLASSES, TRAIN, TEST = 200, 100_000, 10_000
_THREADS = 2


def compute(folder: Path) -> dict[str, np.ndarray]:
    """Arrays of Tiny ImageNet, from `tiny-imagenet-200` in the data folder, else from the official archive.

    Returns:
        x_train, x_test: uint8, shape (n, 64, 64, 3); y_train, y_test: int64; classes: words; source.

    Raises:
        ParameterError: for an archive, folder or image that is damaged.
        FileNotFoundError: where neither is there and the archive cannot be downloaded.
    """
    if (folder / FOLDER).is_dir():
        names = sorted(str(path.relative_to(folder)) for path in (folder / FOLDER).rglob("*") if path.is_file())
        return _read(names, lambda name: (folder / name).read_bytes(), str(folder / FOLDER), "unpacked folder")
    with zipfile.ZipFile(fetch(ARCHIVE, folder)) as archive:
        return _read(sorted(archive.namelist()), archive.read, ARCHIVE.file, "official archive, MD5 checked")


def _read(names: list[str], read: Callable[[str], bytes], place: str, origin: str) -> dict[str, np.ndarray]:
    def contents(name: str) -> bytes:
        try:
            return read(name)
        except (KeyError, OSError) as error:
            lacking = name.removeprefix(f"{FOLDER}/")
            raise ParameterError(f"data_folder: {place} lacks {lacking}; delete it, and get it again") from error

    def text(name: str) -> list[list[str]]:
        return [line.split("\t") for line in contents(f"{FOLDER}/{name}").decode().splitlines() if line.strip()]

    wnids = [line[0].strip() for line in text("wnids.txt")]
    words = {line[0]: line[-1].split(",")[0] for line in text("words.txt")}
    label = {wnid: number for number, wnid in enumerate(wnids)}
    train = [(name, label.get(name.split("/")[2])) for name in names if "/train/" in name and name.endswith(".JPEG")]
    test = [
        (f"{FOLDER}/val/images/{line[0]}", label.get(line[1] if len(line) > 1 else ""))
        for line in text("val/val_annotations.txt")
    ]
    by_class = {wnid: sum(found == number for _, found in train) for wnid, number in label.items()}
    if not test or any(number is None for _, number in train + test) or len(set(by_class.values()) - {0}) != 1:
        raise ParameterError(f"data_folder: {place} must hold as many images of every class in wnids.txt; get it again")
    if 0 in by_class.values():
        lacking = next(wnid for wnid, count in by_class.items() if count == 0)
        raise ParameterError(f"data_folder: {place} lacks train/{lacking}; delete it, and get it again")

    def pixels(sample: tuple[str, int]) -> np.ndarray:
        image = decode(io.BytesIO(contents(sample[0])), sample[0], parameter="data_folder")
        if image.shape != (64, 64, 3):
            raise ParameterError(
                f"data_folder: {sample[0]} must have 64x64 pixels, not {image.shape[1]}x{image.shape[0]}"
            )
        return image

    arrays = {}
    # Decoding lets go of the interpreter lock; reading a zip file does not go side by side, nor need it.
    with ThreadPoolExecutor(_THREADS) as pool, tqdm(total=len(train) + len(test), desc="images", unit="image") as bar:
        for part, samples in (("train", train), ("test", test)):
            images = np.empty((len(samples), 64, 64, 3), dtype=np.uint8)
            for place_, image in enumerate(pool.map(pixels, samples)):
                images[place_] = image
                bar.update()
            arrays |= {f"x_{part}": images, f"y_{part}": np.array([number for _, number in samples], dtype=np.int64)}
    reduced = [
        f"{found} of {official} {what}"
        for what, found, official in (
            ("classes", len(wnids), CLASSES),
            ("training images", len(train), TRAIN),
            ("test images", len(test), TEST),
        )
        if found != official
    ]
    source = f"Tiny ImageNet ({origin}{', reduced: ' if reduced else ''}{', '.join(reduced)})"
    return arrays | {"classes": np.array([words.get(wnid, wnid) for wnid in wnids]), "source": np.array(source)}
