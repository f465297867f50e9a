import numpy as np
import pytest
import torch
from scipy.special import softmax

from lib.catalogue import LOSSES
from lib.losses import mean_absolute_error


def test_mean_absolute_error_is_the_mean_over_samples_of_the_distance_to_one_hot():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 7, generator=generator, dtype=torch.float64)
    targets = torch.randint(7, (50,), generator=generator)
    distance = np.abs(np.eye(7)[targets] - softmax(logits.numpy(), axis=1)).sum(axis=1)
    assert mean_absolute_error(logits, targets).item() == pytest.approx(distance.mean(), abs=1e-12)


def test_known_values():
    assert mean_absolute_error(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item() == pytest.approx(1.5)
    sure = torch.tensor([[50.0, 0.0]])
    assert mean_absolute_error(sure, torch.tensor([0])).item() == pytest.approx(0, abs=1e-6)
    assert mean_absolute_error(sure, torch.tensor([1])).item() == pytest.approx(2)


def test_the_sum_over_classes_is_constant_which_makes_it_robust():
    logits = torch.randn(1, 5, generator=torch.Generator().manual_seed(1))
    total = sum(mean_absolute_error(logits, torch.tensor([k])).item() for k in range(5))
    assert total == pytest.approx(2 * (5 - 1), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name):
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True)
    targets = torch.tensor([0, 2, 1, 1])
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, targets), logits)
