"""Tiny ImageNet: 200 classes of 64x64 images, from its official archive or the folder that it unpacks to.

The official test labels are not public; as everywhere, its validation images serve as the test set. The training images
of each class lie in `train/<wnid>/images`, the labels of the validation images in `val/val_annotations.txt`.
"""

import csv
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.checks import ParameterError
from lib.data.dataset import Dataset, from_arrays
from lib.data.downloads import Archive, fetch
from lib.data.own import Picture, decoded
from lib.data.prepared import prepared
from lib.parameters import ROOT, Experiment

FOLDER = "tiny-imagenet-200"
ARCHIVE = Archive(
    f"{FOLDER}.zip", "90528d7ca1a48142e341f4ef8d21d0de", ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",)
)
_MEAN, _STD = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)  # published, on the scale [0, 1]
_OFFICIAL = {"classes": 200, "training images": 100_000, "test images": 10_000}


def load(experiment: Experiment) -> Dataset:
    """Tiny ImageNet, prepared from the folder `tiny-imagenet-200` in the data folder, else from the official archive.

    Raises:
        ParameterError: for an archive, folder or image that is damaged.
        FileNotFoundError: where neither is there and the archive cannot be downloaded.
    """
    folder = ROOT / experiment.data_folder
    arrays = prepared(folder / "tiny_imagenet.npz", lambda: _compute(folder))
    return from_arrays(arrays, "Tiny ImageNet", (255 * np.array(_MEAN), 255 * np.array(_STD)))


def _compute(folder: Path) -> dict[str, np.ndarray]:
    if (folder / FOLDER).is_dir():
        names = [path.relative_to(folder).as_posix() for path in (folder / FOLDER).rglob("*")]
        return _read(folder, names, "unpacked folder")
    with zipfile.ZipFile(fetch(ARCHIVE, folder)) as archive:
        return _read(zipfile.Path(archive), archive.namelist(), "official archive, MD5 checked")


def _read(root: Any, names: list[str], origin: str) -> dict[str, np.ndarray]:
    """Arrays of the files of these names below a folder, or in a zip file that can be walked like one."""

    def table(name: str, *columns: str) -> pd.DataFrame:
        how = {"sep": "\t", "dtype": str, "quoting": csv.QUOTE_NONE, "na_filter": False}
        try:
            with (root / FOLDER / name).open(encoding="utf-8") as lines:
                return pd.read_csv(lines, header=None, names=columns, usecols=range(len(columns)), **how)
        except (FileNotFoundError, ValueError) as error:
            raise ParameterError(f"data_folder: {FOLDER} lacks a whole {name}; delete it, and get it again") from error

    wnids = table("wnids.txt", "wnid")["wnid"].tolist()
    words = table("words.txt", "wnid", "words").set_index("wnid")["words"].str.split(",").str[0]
    test = table("val/val_annotations.txt", "file", "wnid")
    train = sorted(name for name in names if name.startswith(f"{FOLDER}/train/") and name.endswith(".JPEG"))
    pictures = [Picture(root / name, "train", name.split("/")[2]) for name in train]
    counts = Counter(picture.label for picture in pictures)
    pictures += [Picture(root / FOLDER / "val" / "images" / row.file, "test", row.wnid) for row in test.itertuples()]
    lacking = {f"{FOLDER}/val/images/{name}" for name in test["file"]} - set(names)
    if lacking:
        raise ParameterError(f"data_folder: {min(lacking)} and {len(lacking) - 1} more are missing; get them again")
    if set(counts) != set(wnids) or len(set(counts.values())) != 1 or not set(test["wnid"]) <= set(wnids):
        found = f"{min(counts.values(), default=0)} to {max(counts.values(), default=0)} of {len(counts)} classes"
        allowed = f"as many images of every class in wnids.txt, {len(wnids)}, and of no other; found {found}"
        raise ParameterError(f"data_folder: {FOLDER} must hold {allowed}; delete it, and get it again")
    sizes = zip(_OFFICIAL.items(), (len(wnids), len(train), len(test)), strict=True)
    reduced = [f"{size} of {official} {what}" for (what, official), size in sizes if size != official]
    source = f"Tiny ImageNet ({origin}{', reduced: ' if reduced else ''}{', '.join(reduced)})"
    arrays = decoded(pictures, wnids, shape=(64, 64, 3))
    return arrays | {"classes": np.array([words.get(wnid, wnid) for wnid in wnids]), "source": np.array(source)}
