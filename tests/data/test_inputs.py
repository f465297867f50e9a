import numpy as np
import torch

from lib.data.inputs import Inputs
from lib.torchvision_operators import declare

IMAGES = torch.randint(0, 256, (20, 6, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
MEAN, STD = 255 * np.array([[0.49, 0.48, 0.44], [0.24, 0.25, 0.26]])


def test_images_are_normalised_as_torchvision_does():
    declare()
    from PIL import Image
    from torchvision import transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN / 255, STD / 255)])
    expected = torch.stack([transform(Image.fromarray(image.numpy())) for image in IMAGES])
    inputs = Inputs.normalised(IMAGES, MEAN, STD, are_images=True)
    assert inputs.shape == (20, 3, 6, 4)
    assert torch.allclose(inputs[:], expected, atol=1e-6)
    rows = torch.tensor([3, 3, 19])
    assert torch.equal(inputs[rows], inputs[:][rows])
    assert torch.equal(inputs.take(rows)[:], inputs[rows])


def test_features_go_as_they_are():
    stored = torch.randn(5, 2, 3).half()
    inputs = Inputs(stored)
    assert not inputs.are_images
    assert inputs.shape == (5, 2, 3)
    assert inputs[:2].dtype == torch.float32
    assert torch.equal(inputs[:2], stored[:2].float())


def test_the_memory_format_changes_no_value():
    plain = Inputs.normalised(IMAGES, MEAN, STD, are_images=True)
    other = plain.to("cpu", channels_last=True)
    assert plain[:4].is_contiguous()
    assert other[:4].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain[:4], other[:4])


def test_images_are_not_held_twice():
    array = np.zeros((9, 8, 8, 3), dtype=np.uint8)
    inputs = Inputs.normalised(torch.from_numpy(array), MEAN, STD, are_images=True).to("cpu")
    assert np.shares_memory(inputs.stored.numpy(), array)


def test_types_that_gpus_hardly_know_are_others_there():
    stored = torch.full((2, 3), 65_535, dtype=torch.uint16)
    assert Inputs(stored).to("meta").stored.dtype == torch.int32
    assert Inputs(stored).to("cpu").stored is stored
