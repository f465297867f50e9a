"""Tiny ImageNet: 200 classes of 64x64 images, from its official archive or the folder that it unpacks to.

The official test labels are not public; as everywhere, its validation images serve as the test set. The training images
of each class lie in `train/<wnid>/images`, the labels of the validation images in `val/val_annotations.txt`.
"""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from lib.checks import ParameterError
from lib.data.downloads import Archive, fetch
from lib.data.own import Picture, decoded

FOLDER = "tiny-imagenet-200"
ARCHIVE = Archive(
    f"{FOLDER}.zip", "90528d7ca1a48142e341f4ef8d21d0de", ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",)
)
STATISTICS = [0.4802, 0.4481, 0.3975], [0.2770, 0.2691, 0.2821]
"""Published mean and standard deviation of each channel, on the scale [0, 1]."""
CLASSES, TRAIN, TEST = 200, 100_000, 10_000


def compute(folder: Path) -> dict[str, np.ndarray]:
    """Arrays of Tiny ImageNet, from `tiny-imagenet-200` in the data folder, else from the official archive.

    Returns:
        x_train, x_test: uint8, shape (n, 64, 64, 3); y_train, y_test: int64; classes: words; source.

    Raises:
        ParameterError: for an archive, folder or image that is damaged.
        FileNotFoundError: where neither is there and the archive cannot be downloaded.
    """
    if (folder / FOLDER).is_dir():
        names = [path.relative_to(folder).as_posix() for path in (folder / FOLDER).rglob("*") if path.is_file()]
        return _read(folder, names, str(folder / FOLDER), "unpacked folder")
    with zipfile.ZipFile(fetch(ARCHIVE, folder)) as archive:
        return _read(zipfile.Path(archive), archive.namelist(), ARCHIVE.file, "official archive, MD5 checked")


def _read(root: Path, names: list[str], place: str, origin: str) -> dict[str, np.ndarray]:
    """Arrays of the files below a folder, or in a zip file that can be walked like one."""

    def check(wanted: list[str], there) -> None:
        lacking = next((name for name in wanted if name not in there), None)
        if lacking:
            raise ParameterError(f"data_folder: {place} lacks {lacking}; delete it, and get it again")

    def table(name: str) -> list[list[str]]:
        lines = (root / FOLDER / name).read_text(encoding="utf-8").splitlines()
        return [line.split("\t") for line in lines if line.strip()]

    files = {name.removeprefix(f"{FOLDER}/") for name in names}
    check(["wnids.txt", "words.txt", "val/val_annotations.txt"], files)
    wnids = [line[0].strip() for line in table("wnids.txt")]
    words = {line[0]: line[-1].split(",")[0] for line in table("words.txt")}
    train = sorted(name for name in files if name.startswith("train/") and name.endswith(".JPEG"))
    labels = [(name, "train", name.split("/")[1]) for name in train]
    labels += [
        (f"val/images/{line[0]}", "test", line[-1 if len(line) < 2 else 1]) for line in table("val/val_annotations.txt")
    ]
    check([name for name, _, _ in labels], files)
    counts = Counter(label for _, part, label in labels if part == "train")
    check([f"train/{wnid}" for wnid in wnids], {f"train/{wnid}" for wnid in counts})
    unknown = sorted({label for _, _, label in labels} - set(wnids))
    if unknown or len(set(counts.values())) != 1 or len(labels) == len(train):
        found = f"{min(counts.values(), default=0)} to {max(counts.values(), default=0)} of {len(counts)} classes"
        found += f", classes not named there: {', '.join(unknown[:3])}" if unknown else ""
        allowed = f"must hold as many images of every class in wnids.txt, and images to test on; found {found}"
        raise ParameterError(f"data_folder: {place} {allowed}; get it again")
    pictures = [Picture(root / FOLDER / name, part, label) for name, part, label in labels]
    arrays = decoded(pictures, wnids, shape=(64, 64, 3), parameter="data_folder")
    reduced = [
        f"{found} of {official} {what}"
        for what, found, official in (
            ("classes", len(wnids), CLASSES),
            ("training images", len(train), TRAIN),
            ("test images", len(labels) - len(train), TEST),
        )
        if found != official
    ]
    source = f"Tiny ImageNet ({origin}{', reduced: ' if reduced else ''}{', '.join(reduced)})"
    return arrays | {"classes": np.array([words.get(wnid, wnid) for wnid in wnids]), "source": np.array(source)}
