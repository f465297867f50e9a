import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from lib import data, training
from lib.checks import ParameterError
from lib.data import augmentation, samples
from lib.data.inputs import Inputs
from lib.parameters import Experiment
from lib.training import steps


def one_by_one(images, moves):
    """Pad, crop and flip each image by itself."""
    size, border = images.shape[1], augmentation.padding(images.shape[1])
    made = []
    for image, top, left, flipped in zip(images.numpy(), *(values.tolist() for values in moves), strict=True):
        padded = np.pad(image, ((border, border), (border, border), (0, 0)))
        crop = padded[top : top + size, left : left + size]
        made.append(crop[:, ::-1] if flipped else crop)
    return torch.from_numpy(np.stack(made).copy())


@given(
    kind=st.sampled_from(["crop", "flip", "crop_flip"]),
    n=st.integers(1, 9),
    size=st.integers(2, 20),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_agrees_with_images_moved_one_by_one(kind, n, size, channels, seed):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (n, size, size, channels), dtype=np.uint8))
    moves = augmentation.draw(kind, n, size, rng)
    assert torch.equal(augmentation.apply(images, moves), one_by_one(images, moves))


def test_padding_is_that_of_cifar():
    assert [augmentation.padding(size) for size in (8, 28, 32, 64)] == [1, 4, 4, 8]


def test_every_place_and_both_sides_are_equally_likely():
    moves = augmentation.draw("crop_flip", 90_000, 32, np.random.default_rng(0))
    places = np.bincount((moves.top * 9 + moves.left).numpy(), minlength=81)
    assert len(places) == 81
    assert chisquare(places).pvalue > 0.001
    assert abs(moves.flipped.double().mean() - 0.5) < 0.01


def test_crop_alone_flips_nothing_and_flip_alone_moves_nothing():
    rng = np.random.default_rng(0)
    assert not augmentation.draw("crop", 100, 32, rng).flipped.any()
    flip = augmentation.draw("flip", 100, 32, rng)
    images = torch.randint(0, 256, (100, 32, 32, 3), dtype=torch.uint8)
    still = ~flip.flipped
    assert torch.equal(augmentation.apply(images, flip)[still], images[still])


def test_moves_are_cut_like_batches():
    moves = augmentation.draw("crop_flip", 10, 8, np.random.default_rng(0))
    assert [len(part.top) for part in moves.split(3)] == [4, 3, 3]
    assert torch.equal(torch.cat([part.left for part in moves.split(3)]), moves.left)


def test_training_augments_every_batch_and_evaluation_none(tmp_path, monkeypatch):
    seen = []
    augmented = Inputs.augmented
    monkeypatch.setattr(
        Inputs, "augmented", lambda self, rows, moves: seen.append(len(rows)) or augmented(self, rows, moves)
    )
    experiment = Experiment(runs_folder=str(tmp_path), augmentation="crop", epochs=2, window=1, validation_share=0.1)
    dataset = data.load(experiment)
    training.run(experiment)
    trained_on = len(dataset.y_train) - round(0.1 * len(dataset.y_train)) + experiment.probe_size
    assert sum(seen) == 2 * trained_on


def test_the_same_epoch_is_augmented_in_the_same_way_and_another_is_not():
    experiment = Experiment(augmentation="crop_flip")
    dataset = data.load(experiment)
    drawn = samples.draw(experiment, dataset)
    first, again, other = (next(iter(steps.batches(experiment, dataset, drawn, epoch)))[0] for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_is_no_image_cannot_be_augmented(monkeypatch):
    own = data.Dataset(torch.zeros(4, 2), torch.arange(4) % 2, torch.zeros(2, 2), torch.arange(2), ("a", "b"), "own")
    data.register("digits", lambda experiment: own)
    with pytest.raises(ParameterError, match="augmentation='flip': must be none for data that is no images"):
        data.load(Experiment(augmentation="flip"))
