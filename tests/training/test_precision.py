"""Mixed precision on a processor with bfloat16 and on one without."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lib.parameters import Experiment
from lib.training import precision
from lib.training.steps import Step

HALF = Experiment(dtype="bfloat16", learning_rate=0.1, optimizer="sgd")


@pytest.fixture
def without_hardware(monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: False)


def integers(*shape, most=8):
    """Numbers whose products and sums no precision here rounds, so that only the result is."""
    return torch.randint(-most, most + 1, shape).to(torch.bfloat16)


PRODUCTS = {
    "mm": lambda: (torch.mm, integers(5, 40), integers(40, 7)),
    "linear": lambda: (F.linear, integers(5, 40), integers(7, 40), integers(7, most=100)),
    "bmm": lambda: (torch.bmm, integers(3, 5, 40), integers(3, 40, 7)),
    "baddbmm": lambda: (torch.baddbmm, integers(3, 5, 7), integers(3, 5, 40), integers(3, 40, 7)),
    "conv1d": lambda: (F.conv1d, integers(2, 6, 9), integers(4, 6, 3), integers(4, most=100)),
    "conv2d": lambda: (F.conv2d, integers(2, 6, 9, 9), integers(4, 6, 3, 3), integers(4, most=100)),
}


@given(name=st.sampled_from(sorted(PRODUCTS)), seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_products_are_those_of_double_precision_rounded_once(name, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        function, *operands = PRODUCTS[name]()
        narrow = [operand.clone().requires_grad_() for operand in operands]
        wide = [operand.double().requires_grad_() for operand in operands]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(precision, "has_bfloat16", lambda device: False)
            with precision.bfloat16_products(HALF):
                result = function(*narrow)
                outer = integers(*result.shape)
                result.backward(outer)
        expected = function(*wide)
        expected.backward(outer.double())
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, expected.bfloat16())
    for ours, reference in zip(narrow, wide, strict=True):
        assert torch.equal(ours.grad, reference.grad.bfloat16())


class Operands(TorchDispatchMode):
    """Of what type the operands of products are when they reach torch."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in {"mm", "addmm", "convolution", "convolution_backward"}:
            self.seen.setdefault(name, set()).update(arg.dtype for arg in args if isinstance(arg, torch.Tensor))
        return func(*args, **(kwargs or {}))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 4, 3))


def trained():
    """Outputs of a network before and after a step of training, and the types that its products were computed in."""
    step = Step(HALF, network())
    x, labels = torch.randn(6, 2, 6, 6), torch.tensor([0, 1, 2, 0, 1, 2])
    with Operands() as operands:
        outputs = torch.stack([step(x, labels), step(x, labels)])
    return outputs, operands.seen


def test_a_step_computes_no_product_in_bfloat16_where_the_processor_cannot(without_hardware):
    outputs, seen = trained()
    assert set(seen) == {"mm", "addmm", "convolution", "convolution_backward"}
    assert set.union(*seen.values()) == {torch.float32}
    assert not torch.equal(outputs[0], outputs[1])


def test_a_step_leaves_products_to_a_processor_that_can(monkeypatch, without_hardware):
    emulated, _ = trained()
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: True)
    outputs, seen = trained()
    assert set.union(*seen.values()) == {torch.bfloat16}
    # Products differ by the order of their sums, then by a rounding of 2^-9, a few of which follow one another.
    assert torch.allclose(outputs, emulated, rtol=0, atol=0.03)


def test_single_precision_is_left_alone(without_hardware):
    x, weights = torch.randn(5, 40), torch.randn(7, 40)
    with precision.bfloat16_products(Experiment()), Operands() as operands:
        inside = F.linear(x, weights)
    assert torch.equal(inside, F.linear(x, weights))
    with precision.bfloat16_products(HALF):
        assert torch.equal(inside, F.linear(x, weights))
    assert set.union(*operands.seen.values()) == {torch.float32}


@pytest.mark.parametrize(
    ("onednn", "avx512", "avx512_bf16", "expected"),
    [
        (False, False, False, False),  # AVX2 alone
        (True, True, False, False),  # AVX-512 before bfloat16
        (True, True, True, True),
        (True, False, False, True),  # ARM
    ],
)
def test_which_processors_have_bfloat16(monkeypatch, onednn, avx512, avx512_bf16, expected):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert precision.has_bfloat16("cpu") is expected
