import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lib.checks import ParameterError
from lib.gradients import evidence_criterion, gradient_disparity
from lib.losses import mean_absolute_error
from lib.models import NETWORKS

pytestmark = pytest.mark.usefixtures("double_precision")


def gradient(model, x, labels, loss=cross_entropy):
    """All gradients of the mean loss by autograd, one after the other."""
    model.zero_grad()
    loss(model(x), labels).backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters()]).double()


def sample(n, classes=3, features=4):
    return torch.randn(n, features), torch.randint(classes, (n,))


def network():
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)).eval()


@pytest.mark.parametrize("loss", [cross_entropy, mean_absolute_error])
def test_disparity_is_the_distance_of_two_gradients(loss):
    model, first, second = network(), sample(9), sample(5)
    expected = (gradient(model, *first, loss) - gradient(model, *second, loss)).norm().item()
    assert gradient_disparity(model, first, second, loss) == pytest.approx(expected, rel=1e-9)
    assert gradient_disparity(model, first, first, loss) == 0


@pytest.mark.parametrize("chunk", [1, 4, 32])
def test_evidence_agrees_with_gradients_one_by_one(chunk):
    model, (x, labels) = network(), sample(23)
    single = torch.stack([gradient(model, x[i : i + 1], labels[i : i + 1]) for i in range(23)])
    mean, variance = single.mean(dim=0), single.var(dim=0)
    varies = variance > 1e-14
    expected = 1 - 23 / varies.sum() * (mean[varies].square() / variance[varies]).sum()
    assert evidence_criterion(model, x, labels, chunk=chunk) == pytest.approx(expected.item(), rel=1e-9)


def test_evidence_for_convolutions():
    model = NETWORKS["lenet"]((1, 28, 28), 10)
    value = evidence_criterion(model, torch.randn(40, 1, 28, 28), torch.arange(40) % 10)
    assert value < 1


@pytest.mark.slow
def test_gradients_that_are_noise_stop_and_a_common_direction_does_not():
    # Squared error of a constant: the gradient of a sample is 2 (w - y), so that its mean and variance are known.
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    x = torch.ones(2000, 1)

    def loss(prediction, target):
        return (prediction.squeeze(1) - target).square().mean()

    values = [evidence_criterion(model, x, centre + torch.randn(2000), loss) for centre in torch.zeros(60)]
    assert abs(torch.tensor(values).mean()) < 0.6  # the expectation is 0 where the true gradient is
    assert evidence_criterion(model, x, 1 + torch.randn(2000), loss) < -1000


def test_the_model_is_left_as_it_was():
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradient_disparity(model, sample(4), sample(4))
    evidence_criterion(model, *sample(6))
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_weights_do_not_count():
    model, first, second = network(), sample(9), sample(5)
    for weight in model[0].parameters():
        weight.requires_grad_(False)
    model.zero_grad()
    apart = []
    for x, labels in (first, second):
        apart.append(
            torch.autograd.grad(cross_entropy(model(x), labels), [w for w in model.parameters() if w.requires_grad])
        )
    expected = sum((a - b).square().sum() for a, b in zip(*apart, strict=True)).sqrt().item()
    assert gradient_disparity(model, first, second) == pytest.approx(expected, rel=1e-9)


def test_wrong_arguments():
    model = network()
    with pytest.raises(ParameterError, match="samples=1: must be an integer of at least 2"):
        evidence_criterion(model, *sample(1))
    with pytest.raises(ParameterError, match="labels of 2 samples: must be one for each, of which 3 came"):
        gradient_disparity(model, sample(4), (torch.randn(3, 4), torch.zeros(2).long()))
    with pytest.raises(ValueError, match="the gradient of no weight varies"):
        evidence_criterion(model, torch.ones(3, 4), torch.zeros(3).long())
