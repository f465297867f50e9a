import numpy as np
import pytest
import torch

from lib.predictions import changes


@pytest.mark.parametrize(
    ("previous", "current", "share"),
    [([0, 1, 2, 3], [0, 1, 2, 3], 0.0), ([0, 1, 2, 3], [0, 9, 2, 8], 0.5), ([1], [0], 1.0)],
)
def test_share_of_samples_that_changed(previous, current, share):
    assert changes(torch.tensor(previous), torch.tensor(current)) == share
    assert changes(np.array(previous), np.array(current)) == share


@pytest.mark.parametrize(("previous", "current"), [([0, 1], [0]), ([], []), ([[0]], [[0]])])
def test_shapes_that_do_not_fit(previous, current):
    with pytest.raises(ValueError, match="predictions of shapes"):
        changes(np.array(previous), np.array(current))
