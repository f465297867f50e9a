"""Small files in the official formats of the datasets, and what torchvision must believe of their checksums."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
from scipy.io import savemat

from lib.torchvision_operators import declare

declare()
from torchvision import datasets  # noqa: E402


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def cifar(folder: Path, monkeypatch, reader: str, classes: int) -> dict[str, np.ndarray]:
    """The archive of CIFAR-10 or CIFAR-100 with a few images; returns what is in it."""
    official, rng = getattr(datasets, reader), np.random.default_rng(0)
    fine = "labels" if reader == "CIFAR10" else "fine_labels"
    counts = {name: 4 for name, _ in official.train_list} | {name: 6 for name, _ in official.test_list}
    files, told = {}, {}
    for name, count in counts.items():
        pixels = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        labels = rng.integers(0, classes, count).tolist()
        labels[0] = classes - 1
        files[name] = pickle.dumps({"data": pixels.reshape(count, -1), fine: labels}, protocol=2)
        told[name] = pixels.transpose(0, 2, 3, 1), np.array(labels)
    names = [f"class {number}" for number in range(classes)]
    meta = official.meta["filename"]
    files[meta] = pickle.dumps({official.meta["key"]: names}, protocol=2)
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(f"{official.base_folder}/{name}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        archive = buffer.getvalue()
    (folder / official.filename).write_bytes(archive)
    monkeypatch.setattr(official, "tgz_md5", _md5(archive))
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(official, part, [[name, _md5(files[name])] for name, _ in getattr(official, part)])
    monkeypatch.setattr(official, "meta", official.meta | {"md5": _md5(files[meta])})
    parts = {"train": [name for name, _ in official.train_list], "test": [name for name, _ in official.test_list]}
    return {
        f"{axis}_{part}": np.concatenate([told[name][position] for name in names_])
        for part, names_ in parts.items()
        for position, axis in enumerate("xy")
    }


def mnist(folder: Path, monkeypatch, reader: str) -> dict[str, np.ndarray]:
    """The four archives of MNIST or Fashion-MNIST with a few images; returns what is in them."""
    official, rng = getattr(datasets, reader), np.random.default_rng(1)
    place = folder / reader / "raw"
    place.mkdir(parents=True)
    told, resources = {}, []
    for file, _ in official.resources:
        part, count = ("train", 20) if file.startswith("train") else ("test", 10)
        if "images" in file:
            values = told[f"x_{part}"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        else:
            values = (np.arange(count) % 10).astype(np.uint8)
            told[f"y_{part}"] = values.astype(np.int64)
        header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
        content = gzip.compress(header + values.tobytes())
        (place / file).write_bytes(content)
        resources.append((file, _md5(content)))
    monkeypatch.setattr(official, "resources", resources)
    return told


def svhn(folder: Path, monkeypatch) -> dict[str, np.ndarray]:
    """The two files of SVHN with a few images; returns what is in them."""
    rng, told, split = np.random.default_rng(2), {}, {}
    for part, count in (("train", 20), ("test", 10)):
        pixels = told[f"x_{part}"] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        told[f"y_{part}"] = np.arange(count) % 10
        url, file, _ = datasets.SVHN.split_list[part]
        labels = np.where(told[f"y_{part}"] == 0, 10, told[f"y_{part}"])[:, None]  # the files say 10 for the digit 0
        savemat(folder / file, {"X": pixels.transpose(1, 2, 3, 0), "y": labels})
        split[part] = [url, file, _md5((folder / file).read_bytes())]
    monkeypatch.setattr(datasets.SVHN, "split_list", split)
    return told
