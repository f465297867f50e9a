"""Two processes that train one network together see the same, and stop at the same epoch."""

import pytest
import torch
from torch import distributed
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lib.cnd import StreamingDivergence, neuron_divergence
from lib.loops import Stopper, watch
from lib.predictions import AreaUnderMargin, ForgettingEvents, PredictionChanges
from tests.loops.conftest import EPOCHS, RULE, network

pytestmark = pytest.mark.slow


def work(rank, folder, tensors):
    """What one process does; it leaves what it knows in the folder."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    samples = TensorDataset(*tensors)
    known = {"still": still(rank, samples), "stream": streamed(rank, samples), "stop": stopped(samples)}
    known["back"] = looked_back(samples, torch.arange(96).split([10, 86])[rank])
    torch.save(known, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def still(rank, samples):
    """Signals of a network that does not learn, when each process sees one half and then the other, in two epochs."""
    model, found = network(), []
    signals = watch(model, 3)
    for epoch in range(2):
        with signals:
            for rows in torch.arange(96).view(2, 48)[(rank + epoch) % 2].split(16):
                x, labels, index = (values[rows] for values in samples.tensors)
                signals.update(index, model(x), labels)
        found.append(signals.compute())
        with torch.no_grad():
            model[0].weight.add_(0.1)
    return found


def streamed(rank, samples):
    """The streaming divergence of all samples, of which each process sees a half."""
    stream, (x, labels) = StreamingDivergence(3), (values.view(2, 48, -1)[rank] for values in samples.tensors[:2])
    stream.observe(x)
    stream.synchronise()
    stream.update(x, labels[:, 0])
    stream.synchronise()
    return stream.compute()


def looked_back(samples, rows):
    """What the signals of predictions compute at three records of some of the samples."""
    changes, forgetting, margin = PredictionChanges(), ForgettingEvents(), AreaUnderMargin()
    found, labels = [], samples.tensors[1][rows]
    for record in range(3):
        logits = torch.randn(96, 3, generator=torch.Generator().manual_seed(record))[rows]
        changes.update(logits.argmax(dim=1))
        forgetting.update(logits.argmax(dim=1), labels)
        margin.update(logits, labels)
        found.append([metric.compute() for metric in (changes, forgetting, margin)])
    return found


def stopped(samples):
    model = DistributedDataParallel(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    sampler = DistributedSampler(samples, seed=1)
    stopper = Stopper(model, **RULE, samples=50)
    while not stopper.stop and stopper.epoch < EPOCHS:
        sampler.set_epoch(stopper.epoch)
        with stopper:
            for x, labels, index in DataLoader(samples, 16, sampler=sampler):
                optimizer.zero_grad()
                cross_entropy(model(x), labels).backward()
                optimizer.step()
                stopper.step(index, labels)
        stopper.end_epoch()
    stopper.restore()
    return stopper.epoch, stopper.record, stopper.signals, model.state_dict()


@pytest.fixture(scope="module")
def known(tmp_path_factory, samples):
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, (str(folder), samples.tensors), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_all_stop_at_the_same_epoch_and_keep_the_same(known):
    (epoch, record, signals, weights), other = (of_rank["stop"] for of_rank in known)
    assert record + 3 == epoch < EPOCHS
    assert (epoch, record, signals) == other[:3]
    assert all(torch.equal(values, other[3][name]) for name, values in weights.items())


def test_together_they_see_what_one_process_sees(known, samples):
    model = network()
    signals = watch(model, 3)
    x, labels, index = samples.tensors
    for epoch in range(2):
        with signals:
            signals.update(index, model(x), labels)
        one = signals.compute()
        with torch.no_grad():
            model[0].weight.add_(0.1)
        for of_rank in known:
            assert of_rank["still"][epoch] == pytest.approx(one, nan_ok=True)
    assert one["prediction_changes"] > 0
    assert all(torch.equal(of_rank["stream"], neuron_divergence(x, labels, 3)) for of_rank in known)


def test_signals_of_predictions_are_of_the_samples_of_all_processes(known, samples):
    one = looked_back(samples, slice(None))
    for of_rank in known:
        for mine, expected in zip(of_rank["back"], one, strict=True):
            assert mine == pytest.approx(expected, nan_ok=True)
    assert 0 < one[2][0] < 1
