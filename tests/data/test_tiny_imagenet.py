import hashlib
import io
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from lib import data
from lib.checks import ParameterError
from lib.data import tiny_imagenet
from lib.data.downloads import Archive
from lib.parameters import Experiment
from tests.conftest import SHARED

WNIDS = ["n03", "n01", "n02"]  # in the order of wnids.txt, which is not the alphabetical one


def jpeg(value: int, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (64, 64), value if mode == "L" else (value, 0, 255 - value)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def layout(tmp_path):
    """The official layout with three classes, four training and two validation images each."""
    root = tmp_path / "made" / tiny_imagenet.FOLDER
    (root / "val" / "images").mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius\nn02\tnewt\nn03\tfrog, bullfrog\nn99\tunused\n")
    annotations = []
    for number, wnid in enumerate(WNIDS):
        images = root / "train" / wnid / "images"
        images.mkdir(parents=True)
        (images.parent / f"{wnid}_boxes.txt").write_text("")
        for i in range(4):
            (images / f"{wnid}_{i}.JPEG").write_bytes(jpeg(80 * number, "L" if i == 3 else "RGB"))
        for i in range(2):
            name = f"val_{2 * number + i}.JPEG"
            (root / "val" / "images" / name).write_bytes(jpeg(80 * number))
            annotations.append(f"{name}\t{wnid}\t0\t0\t63\t63")
    (root / "val" / "val_annotations.txt").write_text("\n".join(reversed(annotations)) + "\n")
    return root


def load(folder):
    return data.load(Experiment(dataset="tiny_imagenet", data_folder=str(folder)))


def check(dataset):
    assert dataset.classes == ("frog", "goldfish", "newt")
    assert dataset.x_train.shape == (12, 3, 64, 64)
    assert dataset.y_train.bincount().tolist() == [4, 4, 4]
    assert dataset.y_test.tolist() == [2, 2, 1, 1, 0, 0]
    for label, image in zip(dataset.y_test.tolist(), dataset.x_test.stored.numpy(), strict=True):
        assert abs(int(image[..., 0].mean()) - 80 * label) < 4
    assert "reduced: 3 of 200 classes, 12 of 100000 training images, 6 of 10000 test images" in dataset.source


def test_the_unpacked_folder_is_read(layout, tmp_path):
    shutil.copytree(layout, tmp_path / "data" / layout.name)
    check(load(tmp_path / "data"))
    shutil.rmtree(tmp_path / "data" / layout.name)
    check(load(tmp_path / "data"))


@pytest.fixture
def archive(layout, tmp_path, monkeypatch):
    place = tmp_path / "data"
    place.mkdir()
    with zipfile.ZipFile(place / "tiny-imagenet-200.zip", "w") as packed:
        for path in sorted(layout.parent.rglob("*")):
            packed.write(path, path.relative_to(layout.parent))
    md5 = hashlib.md5((place / "tiny-imagenet-200.zip").read_bytes()).hexdigest()
    monkeypatch.setattr(tiny_imagenet, "ARCHIVE", Archive("tiny-imagenet-200.zip", md5, ()))
    return place / "tiny-imagenet-200.zip"


def test_the_official_archive_is_read(archive):
    check(load(archive.parent))
    archive.unlink()
    check(load(archive.parent))


def test_a_cut_archive_is_not_used(archive):
    archive.write_bytes(archive.read_bytes()[:-1])
    with pytest.raises(ParameterError, match=r"tiny-imagenet-200\.zip is cut, corrupted or another file .*; delete it"):
        load(archive.parent)


def test_without_internet_the_file_and_its_place_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("requests.get", lambda *a, **k: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(FileNotFoundError, match=rf"tiny-imagenet-200\.zip is not in {tmp_path} .*place it there"):
        load(tmp_path)


def without(name):
    def damage(root):
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return damage


UNEQUAL = r"as many images of every class in wnids\.txt, 3, .*; found [34] to 4 of [23] classes; delete it"
IMAGE = "train/n01/images/n01_0.JPEG"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("wnids.txt"), r"lacks a whole wnids\.txt; delete it, and get it again"),
        (without("words.txt"), r"lacks a whole words\.txt; delete it, and get it again"),
        (without("val/val_annotations.txt"), r"lacks a whole val/val_annotations\.txt; delete it, and get it again"),
        (lambda root: (root / "words.txt").write_bytes(b"n01\tcaf\xe9"), r"lacks a whole words\.txt; delete it"),
        (lambda root: (root / "val/val_annotations.txt").write_text("val_0.JPEG\n"), r"lacks a whole val/val_annota"),
        (lambda root: (root / "wnids.txt").write_text("n01\nn02\n"), r"of every class in wnids\.txt, 2, .* 3 classes"),
        (without(IMAGE), UNEQUAL),
        (without("train/n01/images"), UNEQUAL),
        (without("val/images/val_0.JPEG"), r"val/images/val_0\.JPEG and 0 more are missing; get them again"),
        (lambda root: Image.new("RGB", (32, 32)).save(root / IMAGE), r"n01_0\.JPEG must have 64x64 pixels, not 32x32;"),
        (lambda root: (root / IMAGE).write_bytes(jpeg(0)[:300]), r"n01_0\.JPEG must be an image"),
    ],
)
def test_a_damaged_folder_is_named_with_what_is_wrong(layout, damage, message):
    damage(layout)
    with pytest.raises(ParameterError, match=message):
        load(layout.parent)
    assert not list(layout.parent.glob("*.npz"))


@pytest.mark.slow
def test_the_real_sample(tmp_path):
    packed = SHARED / "tiny-imagenet" / "tiny-imagenet-20-classes.tar.xz"
    if not packed.exists():
        pytest.skip(f"the Tiny ImageNet sample is not at {packed}")
    with tarfile.open(packed) as tar:
        tar.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    dataset = load(tmp_path)
    assert dataset.x_train.shape == (2000, 3, 64, 64)
    assert np.unique(dataset.y_train).tolist() == list(range(20))
    assert dataset.y_test.bincount().tolist() == [50] * 20
    assert "reduced: 20 of 200 classes" in dataset.source
    assert abs(dataset.x_train[:].mean()) < 0.2
    assert abs(dataset.x_train[:].std() - 1) < 0.1
