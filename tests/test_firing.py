import numpy as np
import pytest
import torch

from lib.checks import ParameterError
from lib.firing import firing_frequency


def test_counts_one_by_one():
    z = np.random.default_rng(0).normal(size=(30, 7))
    neurons, samples = firing_frequency(z)
    assert isinstance(neurons, np.ndarray)
    assert neurons == pytest.approx([sum(value > 0 for value in z[:, j]) / 30 for j in range(7)])
    assert samples == pytest.approx([sum(value > 0 for value in row) / 7 for row in z])


def test_every_position_of_a_map_counts():
    z = torch.randn(5, 3, 4, 4)
    neurons, samples = firing_frequency(z)
    assert torch.allclose(neurons, (z > 0).double().mean(dim=(0, 2, 3)))
    assert torch.allclose(samples, (z > 0).double().mean(dim=(1, 2, 3)))


def test_the_threshold_and_what_lies_on_it():
    assert firing_frequency(torch.tensor([[0.0, 1.0, 2.0]])).samples.item() == pytest.approx(2 / 3)
    assert firing_frequency(torch.tensor([[0.0, 1.0, 2.0]]), threshold=1.0).samples.item() == pytest.approx(1 / 3)


def test_wrong_arguments():
    with pytest.raises(ParameterError, match=r"must be \(n, neurons, \.\.\.\), none empty"):
        firing_frequency(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="got NaN"):
        firing_frequency(np.array([[np.nan]]))
