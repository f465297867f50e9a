import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from lib.checks import ParameterError
from lib.losses import mean_absolute_error
from lib.models import NETWORKS
from lib.sensitivity import batch_loss_sensitivity, critical_sample_ratio, critical_samples, input_gradient_norms

pytestmark = pytest.mark.usefixtures("double_precision")


def small():
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 3))


@pytest.mark.parametrize("loss", [cross_entropy, mean_absolute_error])
def test_gradients_agree_with_finite_differences(loss):
    model = small().eval()
    x, labels, step = torch.randn(7, 5), torch.arange(7) % 3, 1e-6
    with torch.no_grad():
        slopes = torch.zeros(7, 5)
        for i in range(7):
            for j in range(5):
                up, down = x[i : i + 1].clone(), x[i : i + 1].clone()
                up[0, j] += step
                down[0, j] -= step
                one = labels[i : i + 1]
                slopes[i, j] = (loss(model(up), one) - loss(model(down), one)) / (2 * step)
    norms = input_gradient_norms(model, x, labels, loss, batch_size=3)
    assert torch.allclose(norms, slopes.norm(dim=1), atol=1e-7)
    expected = sum((part.norm() / len(part)).item() for part in slopes.split(4))
    assert batch_loss_sensitivity(model, x, labels, loss, batch_size=4) == pytest.approx(expected, abs=1e-7)


def test_a_linear_model_has_its_closed_form():
    model = nn.Linear(6, 4)
    x, labels = torch.randn(50, 6), torch.randint(4, (50,))
    errors = model(x).softmax(dim=1) - nn.functional.one_hot(labels, 4)  # gradient of cross entropy by the logits
    expected = (errors @ model.weight).norm(dim=1)
    assert torch.allclose(input_gradient_norms(model, x, labels), expected)


@pytest.mark.parametrize("name", ["small_cnn", "preact_resnet9", "vit"])
def test_agrees_with_one_gradient_a_sample(name):
    model = NETWORKS[name]((3, 16, 16), 5).eval()
    x, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 4, 2, 1])
    state = dict(model.named_parameters()) | dict(model.named_buffers())

    def one(point, label):
        return cross_entropy(functional_call(model, state, (point[None],)), label[None])

    expected = vmap(grad(one))(x, labels).flatten(1).norm(dim=1)
    assert torch.allclose(input_gradient_norms(model, x, labels, batch_size=3), expected)


def test_the_model_is_left_as_it_was():
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, labels = torch.randn(6, 5), torch.arange(6) % 3
    input_gradient_norms(model, x, labels)
    critical_samples(model, x, 0.1)
    assert model.training
    assert x.grad is None
    assert all(value.grad is None for value in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("radius", [0.05, 0.3, 1.0])
def test_critical_samples_of_a_linear_model_are_those_near_its_plane(radius):
    model = nn.Linear(8, 2)
    x = torch.randn(400, 8)
    normal = model.weight[0] - model.weight[1]
    distance = (x @ normal + model.bias[0] - model.bias[1]).abs() / normal.abs().sum()  # in the L-infinity norm
    clear = (distance - radius).abs() > 1e-9
    found = critical_samples(model, x, radius)
    assert torch.equal(found[clear], (distance < radius)[clear])
    assert 0 < found.double().mean() < 1
    assert critical_sample_ratio(model, x, radius) == found.double().mean().item()


def test_what_is_found_is_in_the_ball(monkeypatch):
    model = small()
    x, seen = torch.randn(60, 5), []
    forward = model[0].forward

    def watched(points):
        seen.append(points.detach().clone())
        return forward(points)

    monkeypatch.setattr(model[0], "forward", watched)
    critical_samples(model, x, 0.2, steps=4)
    assert len(seen) == 6
    for points in seen:
        nearest = (points[:, None] - x[None]).abs().amax(dim=2).amin(dim=1)
        assert (nearest <= 0.2 + 1e-12).all()


def test_more_radius_finds_more_and_the_seed_decides():
    model, x = small(), torch.randn(300, 5)
    ratios = [critical_sample_ratio(model, x, radius) for radius in (0.01, 0.1, 0.5, 2.0)]
    assert ratios == sorted(ratios)
    assert ratios[0] < ratios[-1]
    once, other = (critical_samples(model, x, 0.5, steps=1, step_size=0.01, seed=seed) for seed in (3, 4))
    assert not torch.equal(once, other)
    assert torch.equal(once, critical_samples(model, x, 0.5, steps=1, step_size=0.01, seed=3, batch_size=7))


def test_wrong_arguments():
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    for call, message in (
        (lambda: critical_samples(model, x, 0.0), r"radius=0\.0: must be a finite number above 0"),
        (lambda: critical_samples(model, x, 1.0, steps=0), "steps=0: must be an integer of at least 1"),
        (lambda: input_gradient_norms(model, x.int(), torch.zeros(4).long()), "must be floating point"),
        (
            lambda: input_gradient_norms(model, x, torch.zeros(3).long()),
            "labels of 3 samples: must be one for each, of which 4 came",
        ),
    ):
        with pytest.raises(ParameterError, match=message):
            call()
