import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lib.averaging import WeightAverage
from lib.checks import ParameterError


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def trained(model, steps, after_step=lambda: None):
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    model.train()
    for _ in range(steps):
        x, labels = torch.randn(16, 5, generator=generator), torch.randint(3, (16,), generator=generator)
        optimizer.zero_grad()
        cross_entropy(model(x), labels).backward()
        optimizer.step()
        after_step()


@pytest.mark.parametrize("steps", [0.5, 3, 20])
def test_against_the_formula_number_by_number(steps):
    model = network()
    average = WeightAverage(model, steps)
    expected = {name: value.clone().double() for name, value in model.state_dict().items()}
    t = 0

    def follow():
        nonlocal t
        t += 1
        average.update()
        decay = min(math.exp(-1 / steps), (1 + t) / (10 + t))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value.double()
            else:
                expected[name] = value.clone()

    trained(model, 60, follow)
    found = average.model.state_dict()
    assert average.updates == 60
    assert found["1.num_batches_tracked"] == 60
    for name, value in expected.items():
        # float32 rounds each of 60 steps by half a unit in the last place of numbers up to 4.
        assert torch.allclose(found[name].double(), value.double(), rtol=0, atol=60 * 4 * 2**-24), name
    assert not torch.allclose(found["0.weight"], model[0].weight)


def test_the_network_is_not_changed_and_the_average_is_in_evaluation_mode():
    alone, watched = network(), network()
    trained(alone, 20)
    average = WeightAverage(watched, 5)
    trained(watched, 20, average.update)
    assert all(torch.equal(one, other) for one, other in zip(alone.parameters(), watched.parameters(), strict=True))
    assert watched.training
    assert not any(module.training for module in average.model.modules())
    assert not any(weight.requires_grad for weight in average.model.parameters())


def test_gone_on_with_from_its_state_it_is_the_same_to_the_bit():
    model = network()
    average = WeightAverage(model, 7)
    trained(model, 11, average.update)
    again = WeightAverage(model, 7)
    again.load_state_dict(average.state_dict())
    trained(model, 9, lambda: (average.update(), again.update()))
    assert again.updates == average.updates == 20
    for one, other in zip(average.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_network_without_buffers_and_shared_weights():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    average = WeightAverage(model, 1)
    with torch.no_grad():
        model[0].weight.fill_(3.0)
    average.update()
    assert average.model[0].weight is average.model[1].weight


@pytest.mark.parametrize("steps", [0, -1, math.inf, math.nan])
def test_steps_out_of_range(steps):
    with pytest.raises(ParameterError, match=r"steps=.*: must be a finite number above 0"):
        WeightAverage(nn.Linear(2, 2), steps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_averaged_in_single(dtype):
    models = [nn.Linear(1, 1), nn.Linear(1, 1).to(dtype)]
    averages = [WeightAverage(model, 400) for model in models]
    for step in range(2000):
        if step == 1000:  # as a job that goes on
            state, averages[1] = averages[1].state_dict(), WeightAverage(models[1], 400)
            averages[1].load_state_dict(state)
        for model, average in zip(models, averages, strict=True):
            nn.init.constant_(model.weight, 1 + step / 2000)
            average.update()
    single, half = (average.model.weight.item() for average in averages)
    assert 1.7 < single < 1.9
    assert half == pytest.approx(single, rel=0.01)
    assert averages[1].model.weight.dtype == dtype
