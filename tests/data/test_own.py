import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from lib import data
from lib.checks import ParameterError
from lib.data.own import decode
from lib.paper import report
from lib.parameters import Experiment
from lib.runs import table as runs
from lib.study.studies import studies
from lib.training import run
from tests.conftest import left

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 9, 7, 3), dtype=np.uint8)
LABELS = np.arange(20) % 3


def arrays(**changed):
    content = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:6], "y_test": LABELS[:6]} | changed
    return {name: value for name, value in content.items() if value is not None}


def load(path, **settings):
    return data.load(Experiment(dataset=str(path), data_folder=str(path.parent / "prepared"), **settings))


def test_a_source_is_kept(tmp_path):
    np.savez(tmp_path / "own.npz", **arrays(source=np.array("birds of 2026")))
    assert load(tmp_path / "own.npz").source == "birds of 2026"


def test_arrays_under_other_names_are_said_with_the_closest(tmp_path):
    named = {"X_train": IMAGES, "Y_train": LABELS, "x_test": IMAGES[:6], "y_test": LABELS[:6]}
    np.savez(tmp_path / "own.npz", **named)
    told = r"x_train, y_train missing, found X_train, Y_train, x_test, y_test; did you mean 'X_train'\?"
    with pytest.raises(ParameterError, match=told):
        load(tmp_path / "own.npz")
    np.savez(tmp_path / "other.npz", np.arange(3))
    with pytest.raises(ParameterError, match=r"x_train, y_train, x_test, y_test missing, found arr_0$"):
        load(tmp_path / "other.npz")


def test_text_stored_as_objects_is_named_with_the_remedy(tmp_path):
    np.savez(tmp_path / "own.npz", **arrays(y_train=np.array(["cat", "dog"] * 10, dtype=object)))
    told = r"text must be of dtype str, not object \(y_train: Object arrays cannot be loaded"
    with pytest.raises(ParameterError, match=told):
        load(tmp_path / "own.npz")


def test_what_is_there_is_said_where_a_path_or_folder_is_not(pictures):
    with pytest.raises(ParameterError, match=r"found none at .*/bird; in .* found birds; did you mean 'birds'\?"):
        load(pictures.parent / "bird")
    (pictures / "notes.zip").touch()
    with pytest.raises(ParameterError, match=r"found a file of another kind at .*notes\.zip"):
        load(pictures / "notes.zip")
    (pictures / "train").rename(pictures / "Train")
    told = r"must hold a folder train; in .*birds found Train, notes\.zip, val; did you mean 'Train'\?"
    with pytest.raises(ParameterError, match=told):
        load(pictures)
    (pictures / "train").mkdir()
    (pictures / "train" / "a.png").touch()
    with pytest.raises(ParameterError, match=r"must hold a folder a class with images in it; in .*train found a\.png"):
        load(pictures)
    (pictures / "train" / "hawk").mkdir()
    with pytest.raises(ParameterError, match=r"a folder a class with images in it; in .*hawk found nothing"):
        load(pictures)
    (pictures / "train" / "hawk" / "0.heic").touch()
    with pytest.raises(ParameterError, match=r"must hold a folder a class with images in it; in .*hawk found 0\.heic"):
        load(pictures)


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "own.npz").write_bytes(b"no archive")
    with pytest.raises(ParameterError, match=r"dataset='.*own\.npz': .* is damaged, or no \.npz file of plain arrays"):
        load(tmp_path / "own.npz")
    with pytest.raises(
        ParameterError, match=r"\.npz file or a folder of images, found none at .*; in .* found own\.npz"
    ):
        load(tmp_path / "nowhere.npz")


@pytest.fixture
def pictures(tmp_path):
    """Three classes, four training and two test images each, of one size."""
    root = tmp_path / "birds"
    for number, kind in enumerate(("wren", "owl", "crow")):
        for part, count in (("train", 4), ("val", 2)):
            place = root / part / kind
            place.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (12, 10), (80 * number, i, 0)).save(place / f"{i}.png")
    (root / "train" / "wren" / "notes.txt").write_text("not an image")
    return root


def test_a_folder_of_images_is_prepared_once(pictures, monkeypatch):
    first = load(pictures)
    assert first.classes == ("crow", "owl", "wren")
    assert first.x_train.shape == (12, 3, 10, 12)
    assert first.y_test.tolist() == [0, 0, 1, 1, 2, 2]
    for label, image in zip(first.y_train.tolist(), first.x_train.stored, strict=True):
        assert set(image[..., 0].flatten().tolist()) == {160 - 80 * label}
    monkeypatch.setattr("lib.data.own.decode", None)
    assert torch.equal(load(pictures).x_train[:], first.x_train[:])


def test_a_changed_image_is_seen_and_what_was_prepared_before_goes(pictures):
    before = load(pictures)
    Image.new("RGB", (12, 10), (255, 255, 255)).save(pictures / "train" / "owl" / "0.png")
    assert not torch.equal(load(pictures).x_train.stored, before.x_train.stored)
    assert len(left(pictures.parent / "prepared")) == 1


def test_what_is_prepared_at_several_sizes_stays(pictures):
    for size in (8, 6, 8):
        load(pictures, image_size=size)
    assert len(left(pictures.parent / "prepared")) == 2


def test_without_a_test_set_there_are_no_test_samples(tmp_path, pictures):
    np.savez(tmp_path / "own.npz", **arrays(x_test=None, y_test=None, source=np.array("birds")))
    dataset = load(tmp_path / "own.npz")
    assert (len(dataset.x_test), len(dataset.y_test)) == (0, 0)
    assert dataset.source == "birds, no test set"
    np.savez(tmp_path / "tested.npz", **arrays())
    assert torch.equal(dataset.x_train[:], load(tmp_path / "tested.npz").x_train[:])
    shutil.rmtree(pictures / "val")
    assert len(load(pictures).y_test) == 0
    assert len(load(pictures).y_train) == 12


def test_what_may_be_meant_as_a_test_set_is_not_passed_over(tmp_path, pictures):
    np.savez(tmp_path / "own.npz", **arrays(x_test=None, y_test=None, X_test=IMAGES, Y_test=LABELS))
    with pytest.raises(ParameterError, match=r"x_test, y_test missing, found .*; did you mean 'X_test'\?"):
        load(tmp_path / "own.npz")
    np.savez(tmp_path / "own.npz", **arrays(y_test=None))
    with pytest.raises(ParameterError, match="y_test missing"):
        load(tmp_path / "own.npz")
    (pictures / "val").rename(pictures / "Test")
    with pytest.raises(ParameterError, match=r"must hold a folder test or val; .* found Test, train"):
        load(pictures)


def test_hidden_files_and_folders_are_no_images(pictures):
    (pictures / "train" / ".ipynb_checkpoints").mkdir()
    (pictures / "train" / "owl" / "._0.png").write_bytes(b"left by another system")
    assert load(pictures).classes == ("crow", "owl", "wren")


def test_images_that_would_lose_their_content_are_refused(pictures):
    Image.fromarray(np.arange(120, dtype=np.uint16).reshape(10, 12) * 500).save(pictures / "train" / "owl" / "0.png")
    with pytest.raises(ParameterError, match=r"0\.png must be an image of 8 bits a channel, not of mode I;16"):
        load(pictures)


def test_pictures_stand_upright(tmp_path):
    picture = Image.new("RGB", (20, 10))
    exif = picture.getexif()
    exif[0x0112] = 6  # held on its side
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert decode(tmp_path / "a.jpg").shape == (20, 10, 3)


def test_a_run_on_data_that_has_changed_is_not_read(tmp_path):
    settings = {"network": "small_cnn", "probe_size": 2, "batch_size": 4, "epochs": 1, "window": 1, "patience": 1}
    file = tmp_path / "own.npz"
    experiment = Experiment(dataset=str(file), runs_folder=str(tmp_path / "runs"), **settings)
    np.savez(file, **arrays())
    first = run(experiment)
    assert run(experiment) == first
    np.savez(file, **arrays(x_train=IMAGES[::-1].copy(), source=np.array("other")))
    with pytest.raises(FileExistsError, match="holds a run of another version of your own dataset; remove it"):
        run(experiment)


@pytest.mark.slow
def test_a_report_is_made_of_a_run_on_own_data(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    np.savez(folder / "own.npz", **arrays())
    settings = {"probe_size": 2, "batch_size": 4, "epochs": 2, "window": 1, "patience": 1}
    finished = run(Experiment(dataset=str(folder / "own.npz"), runs_folder=str(tmp_path / "runs"), **settings))
    assert [study.name for study in studies(runs.load(tmp_path / "runs"))] == ["own"]
    page = report.build(str(tmp_path / "runs"), str(tmp_path / "figures"), idea_epochs=6)
    assert "own: 1 run, 1 seed for each noise" in page.read_text()
    assert finished.folder.name.startswith("own-")


def test_images_of_many_sizes_are_scaled_and_cropped(pictures):
    Image.new("L", (40, 20), 200).save(pictures / "train" / "owl" / "wide.jpg")
    with pytest.raises(
        ParameterError,
        match=r"dataset: .*wide\.jpg must have 12x10 pixels, not 40x20; image_size scales your own images",
    ):
        load(pictures)
    dataset = load(pictures, image_size=8)
    assert dataset.x_train.shape == (13, 3, 8, 8)
    assert "scaled to 8x8 pixels" in dataset.source


def test_folders_that_do_not_fit(pictures, tmp_path):
    with pytest.raises(ParameterError, match=r"must hold a folder train; in .*train found crow, owl, wren"):
        load(pictures / "train")
    with pytest.raises(ParameterError, match=r"must be an \.npz file or a folder of images, found none"):
        load(tmp_path / "nowhere")
    (pictures / "val" / "owl").rename(pictures / "val" / "hawk")
    with pytest.raises(ParameterError, match="must be of classes in train, not of hawk; found crow, owl, wren"):
        load(pictures)
    (pictures / "train" / "owl" / "0.png").write_bytes(b"cut")
    (pictures / "val" / "hawk").rename(pictures / "val" / "owl")
    with pytest.raises(ParameterError, match=r"dataset: .*owl/0\.png must be an image; .*; mend or delete it"):
        load(pictures)
    assert not list((pictures.parent / "prepared").glob("*.npz"))


def test_own_images_go_through_a_whole_run(pictures, tmp_path):
    experiment = Experiment(
        dataset=str(pictures),
        data_folder=str(tmp_path),
        runs_folder=str(tmp_path / "runs"),
        network="small_cnn",
        augmentation="flip",
        image_size=16,
        probe_size=2,
        batch_size=4,
        epochs=2,
        window=1,
    )
    finished = run(experiment)
    assert finished.folder.name.startswith("birds-symmetric0.4-small_cnn-seed0-")
    assert len(finished.performances) == 2
