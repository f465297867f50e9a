import dataclasses
import logging

import numpy as np
import pytest
import torch
from torch import nn

from lib import data, layers, models
from lib.catalogue import CRITERIA, Criterion
from lib.checks import ParameterError
from lib.cnd import neuron_divergence
from lib.data.samples import draw
from lib.parameters import Experiment
from lib.runs import load
from lib.runs.folder import ARGS, DIVERGENCE, LOG, PERFORMANCES, WEIGHTS, Run
from lib.study.restop import finished_runs
from lib.training import Recording, Training, run, steps
from lib.training import experiment as carried_out
from lib.training import loop as training


def test_the_same_experiment_twice_gives_identical_bytes(tmp_path, tiny):
    folders = []
    for place in ("first", "second"):
        torch.manual_seed(len(folders))  # the caller's random state has no say
        torch.rand(3)
        folders.append(run(Experiment(runs_folder=str(tmp_path / place), dropout=0.2, **tiny)).folder)
    for name in (PERFORMANCES, DIVERGENCE):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    weights = [torch.load(folder / WEIGHTS, weights_only=True) for folder in folders]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.slow
def test_a_training_that_is_iterated_gives_the_records_of_its_run(tmp_path, tiny):
    settings = tiny | {
        "epochs": 4,
        "dropout": 0.2,
        "records_per_epoch": 2,
        "augmentation": "crop",
        "network": "small_cnn",
    }
    experiment = Experiment(runs_folder=str(tmp_path), train_samples=300, **settings)
    training, records = Training(experiment), []
    for record in training:
        records.append(record)
        torch.manual_seed(7)  # what the caller draws meanwhile has no say
        torch.rand(3)
        assert torch.get_num_threads() == 1
        assert not torch.are_deterministic_algorithms_enabled()
        if record.number == 3:  # and it may be gone on with by another object
            state = training.state_dict()
            break
    training = Training(experiment)
    training.load_state_dict(state)
    records += list(training)
    numbers = []
    with Recording(Training(experiment)) as recording:
        for record in recording:
            numbers.append(record.number)
            torch.manual_seed(7)
            torch.rand(3)
    assert numbers == [*range(1, 9)]
    finished = recording.finished
    assert finished == run(experiment)
    with Recording(Training(experiment)) as again:
        assert list(again) == []
    assert again.finished == finished
    performances = finished.performances
    assert [record.number for record in records] == performances["record"].tolist()
    assert [record.epoch for record in records] == performances["epoch"].tolist()
    assert np.array_equal(
        np.stack([record.divergence for record in records]).astype(np.float32), finished.divergence, True
    )
    for name in performances.columns[2:]:
        assert np.array_equal([record.values[name] for record in records], performances[name], equal_nan=True), name
    assert all(torch.equal(training.model.state_dict()[name], value) for name, value in finished.weights().items())
    averaged = training.average.model.state_dict()
    assert all(torch.equal(averaged[name], value) for name, value in finished.weights(average=True).items())
    assert list(training) == []


def test_another_seed_gives_other_numbers(tmp_path, tiny):
    first, second = (run(Experiment(runs_folder=str(tmp_path), seed=seed, **tiny)) for seed in (0, 1))
    assert not first.performances.equals(second.performances)


def test_recorded_numbers_are_those_of_the_final_network(tmp_path, tiny):
    experiment = Experiment(runs_folder=str(tmp_path), signal_passes="evaluation", **tiny)
    finished = run(experiment)
    last = finished.performances.iloc[-1]
    dataset = data.load(experiment)
    samples = draw(experiment, dataset)
    network = models.build(experiment, (1, 8, 8), 10)
    network.load_state_dict(finished.weights())
    network.eval()
    part = samples.train

    def accuracy(x, labels):
        with torch.no_grad():
            return (network(x).argmax(dim=1) == labels).double().mean().item()

    wrong = part.corrupted
    x = dataset.x_train
    assert last["test_accuracy"] == accuracy(dataset.x_test[:], dataset.y_test)
    assert last["train_accuracy"] == accuracy(x[part.rows], part.given)
    assert last["corrupted_accuracy_given"] == accuracy(x[part.rows[wrong]], part.given[wrong])
    assert last["corrupted_accuracy_true"] == accuracy(x[part.rows[wrong]], part.true[wrong])
    assert last["known_polluted_accuracy"] == accuracy(x[samples.probe.rows], samples.probe.given)
    assert last["validation_accuracy_noisy"] == accuracy(x[samples.validation.rows], samples.validation.given)
    assert last["validation_accuracy_clean"] == accuracy(x[samples.validation.rows], samples.validation.true)
    with torch.no_grad():
        logits, polluted = network(x[part.rows]), network(x[samples.probe.rows])
    log_likelihood = polluted.log_softmax(dim=1).gather(1, samples.probe.given[:, None]).mean().item()
    assert last["known_polluted_log_likelihood"] == pytest.approx(log_likelihood, abs=1e-6)
    as_labelled = logits.argmax(dim=1) == part.given
    z = layers.pre_activations(network, x[part.rows[as_labelled]])
    bits = neuron_divergence(z, part.given[as_labelled], 10).numpy()
    assert np.allclose(finished.divergence[-1], bits, atol=0.02)
    assert last["cnd"] == pytest.approx(np.quantile(finished.divergence[-1], 0.9), abs=1e-6)
    z = layers.pre_activations(network, x[part.rows])
    for column, labels in (("cnd_given_all", part.given), ("cnd_true_all", part.true)):
        assert last[column] == pytest.approx(np.quantile(neuron_divergence(z, labels, 10), 0.9), abs=0.01)
    assert last["cnd_given_all"] < last["cnd_true_all"]


def test_what_is_recorded_of_the_average_is_that_of_the_average(tmp_path):
    criteria = ["cnd", "average_disagreement", "cnd_average", "known_polluted_log_likelihood_average"]
    experiment = Experiment(runs_folder=str(tmp_path), network="news_mlp", epochs=3, window=1, criteria=criteria)
    finished = run(experiment)
    last, dataset = finished.performances.iloc[-1], data.load(experiment)
    samples = draw(experiment, dataset)
    networks = []
    for average in (False, True):
        networks.append(models.build(experiment, (1, 8, 8), 10).eval())
        networks[-1].load_state_dict(finished.weights(average))
    part, x = samples.measured, dataset.x_train
    with torch.no_grad():
        predicted, averaged = (network(x[part.rows]).argmax(dim=1) for network in networks)
        test = networks[1](dataset.x_test[:]).argmax(dim=1)
        polluted = networks[1](x[samples.probe.rows]).log_softmax(dim=1)
    assert last["average_disagreement"] == (predicted != averaged).double().mean().item() > 0
    assert last["test_accuracy_average"] == (test == dataset.y_test).double().mean().item()
    wrong = part.corrupted
    memorized = (averaged[wrong] == part.given[wrong]).double().mean().item()
    assert last["corrupted_accuracy_given_average"] == memorized
    log_likelihood = polluted.gather(1, samples.probe.given[:, None]).mean().item()
    assert last["known_polluted_log_likelihood_average"] == pytest.approx(log_likelihood, abs=1e-5)
    z = layers.pre_activations(networks[1], x[part.rows])
    bits = neuron_divergence(z, part.given, 10, predicted=averaged)
    assert last["cnd_average"] == pytest.approx(np.quantile(bits.numpy(), 0.9), abs=1e-3)


@pytest.mark.slow
def test_without_an_average_the_training_and_its_signals_are_the_same(tmp_path, tiny):
    settings = tiny | {"criteria": [name for name in tiny["criteria"] if "average" not in name], "dropout": 0.2}
    with_average, without = (
        run(Experiment(runs_folder=str(tmp_path), average_epochs=epochs, **settings)) for epochs in (1.0, 0.0)
    )
    assert not any("average" in name for name in without.performances)
    assert not (without.folder / "weights_average.pt").exists()
    assert without.performances.equals(with_average.performances[without.performances.columns])
    assert np.array_equal(without.divergence, with_average.divergence, equal_nan=True)
    with pytest.raises(ParameterError, match=r"average_epochs=0\.0: must be above 0 where criteria read the average"):
        Experiment(average_epochs=0, criteria=["average_disagreement"])


def test_prediction_changes_start_with_the_second_record(runs_folder):
    run_ = Run.find(Experiment.read(next(runs_folder.iterdir()) / ARGS))
    changes = run_.performances["prediction_changes"]
    assert np.isnan(changes[0])
    assert changes[1:].between(0, 1).all()


def test_records_within_an_epoch(tmp_path):
    finished = run(Experiment(runs_folder=str(tmp_path), epochs=2, records_per_epoch=4, criteria=["cnd"]))
    epochs = finished.performances["epoch"]
    assert len(epochs) == 8
    assert epochs[3] == 1
    assert epochs[7] == 2
    assert np.allclose(epochs, np.arange(1, 9) / 4, atol=0.03)


def test_only_what_is_asked_for_is_recorded(tmp_path):
    finished = run(Experiment(runs_folder=str(tmp_path), epochs=5, criteria=["prediction_changes"]))
    assert "cnd" not in finished.performances
    assert not (finished.folder / DIVERGENCE).exists()


def test_a_network_of_the_users_own_needs_no_change(tmp_path, monkeypatch):
    class Own(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.encoder = nn.Linear(64, 40)
            self.head = nn.Linear(40, classes)

        def forward(self, x):
            return self.head(torch.tanh(self.encoder(x.flatten(1))))

    models.register("own", lambda shape, classes, dropout: Own(classes))
    finished = run(Experiment(runs_folder=str(tmp_path), network="own", epochs=2, window=1))
    assert finished.divergence.shape == (2, 40)
    assert "CND at layer encoder" in (finished.folder / LOG).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"loss": "mean_absolute_error"}, {"optimizer": "adam", "learning_rate": 1e-3}])
def test_losses_and_optimizers_learn(tmp_path, settings):
    finished = run(Experiment(runs_folder=str(tmp_path), noise="none", noise_rate=0, epochs=8, **settings))
    losses = finished.performances["train_loss"]
    assert losses.iloc[-1] < losses[0] - 0.1


@pytest.mark.slow
def test_momentum_and_weight_decay_reach_the_optimizer(tmp_path):
    accuracies = {
        name: run(Experiment(runs_folder=str(tmp_path), epochs=5, **settings)).performances["train_loss"].iloc[-1]
        for name, settings in {"plain": {}, "momentum": {"momentum": 0.9}, "decay": {"weight_decay": 0.1}}.items()
    }
    assert len(set(accuracies.values())) == 3


def test_bfloat16(tmp_path):
    settings = {"noise": "none", "noise_rate": 0, "epochs": 3, "window": 1}
    finished = run(Experiment(runs_folder=str(tmp_path), dtype="bfloat16", **settings))
    assert finished.performances["test_accuracy"].iloc[-1] > 0.3


def test_a_linear_network_has_no_hidden_layer_and_needs_none_without_cnd(tmp_path, monkeypatch):
    models.register("linear", lambda s, k, p: nn.Sequential(nn.Flatten(), nn.Linear(64, k)))
    settings = {"runs_folder": str(tmp_path), "network": "linear", "epochs": 2, "window": 1}
    assert len(run(Experiment(criteria=["prediction_changes"], **settings)).performances) == 2
    with pytest.raises(ParameterError, match="must have a hidden"):
        run(Experiment(criteria=["cnd"], **settings))
    assert run(Experiment(criteria=["cnd"], cnd_layer="0", **settings)).layers == {"0": 64}


@pytest.mark.slow
def test_a_run_is_written_by_one_process_at_a_time(tmp_path, monkeypatch, tiny):
    experiment = Experiment(runs_folder=str(tmp_path), **tiny)
    record = training.Recorder.record
    refusals = []

    def meanwhile_another_starts(self):
        if not refusals:
            refusals.append(None)
            with pytest.raises(FileExistsError, match="is being written by another process"):
                run(experiment)
        return record(self)

    monkeypatch.setattr(training.Recorder, "record", meanwhile_another_starts)
    assert len(run(experiment).performances) == 3
    assert not (experiment.folder / "run.lock").exists()


def test_a_finished_run_is_read_not_run_again(tmp_path, monkeypatch, tiny):
    experiment = Experiment(runs_folder=str(tmp_path), **tiny)
    first = run(experiment)
    monkeypatch.setattr(carried_out, "Training", None)
    assert run(experiment) == first


@pytest.mark.slow
def test_the_callers_settings_come_back(tmp_path, tiny):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    run(Experiment(runs_folder=str(tmp_path), threads=2, **tiny))
    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"network": "own", "cnd_layer": "4"}, "cnd_layer='4': must be one of 0, 1"),
        ({"records_per_epoch": 50}, "records_per_epoch=50: must be at most the 21 batches of an epoch"),
        ({"probe_size": 5000}, "probe_size=5000: must be an integer in [1, 1257], the training samples"),
        ({"device": "cuda:7"}, "device='cuda:7': must be cpu or one of this machine's 0 CUDA devices"),
        (
            {"network": "news_mlp", "batch_size": 1},
            "batch_size=1: must leave no batch of a single sample",
        ),
        ({"network": "flat"}, "network='flat': must take samples of shape (1, 8, 8); "),
        ({"network": "narrow"}, "network='narrow': must give logits of shape (2, 10), not (2, 3)"),
        ({"network": "detour", "cnd_layer": "2"}, "cnd_layer='2': must be a layer that a forward pass reaches"),
    ],
)
def test_what_does_not_fit_is_an_error_before_anything_is_written(tmp_path, monkeypatch, parameters, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)

    class Detour(nn.Sequential):
        def forward(self, x):
            return self[3](self[1](self[0](x)))

    models.register("own", lambda s, k, p: nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Tanh(), nn.Linear(9, k)))
    models.register("flat", lambda s, k, p: nn.Sequential(nn.Linear(64, 9), nn.Tanh(), nn.Linear(9, k)))
    models.register("narrow", lambda s, k, p: nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Linear(9, 3)))
    models.register("detour", lambda s, k, p: Detour(nn.Flatten(), nn.Linear(64, 9), nn.Linear(9, 9), nn.Linear(9, k)))
    with pytest.raises(ParameterError) as error:
        run(Experiment(runs_folder=str(tmp_path / "runs"), **parameters))
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_training_that_diverges_says_so(tmp_path):
    experiment = Experiment(runs_folder=str(tmp_path), learning_rate=1e9, epochs=5)
    with pytest.raises(FloatingPointError, match=r"lower learning_rate=1000000000\.0"):
        run(experiment)
    assert "training diverged" in (experiment.folder / LOG).read_text()
    assert Run.find(experiment) is None


def test_an_interrupted_run_leaves_whole_lines_and_starts_anew(tmp_path, monkeypatch, tiny):
    experiment = Experiment(runs_folder=str(tmp_path), **tiny)
    record = training.Recorder.record

    def interrupted_at_the_second(self, taken=[]):  # noqa: B006
        taken.append(1)
        if len(taken) == 2:
            raise KeyboardInterrupt
        return record(self)

    with monkeypatch.context() as patch:
        patch.setattr(training.Recorder, "record", interrupted_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            run(experiment)
    assert (experiment.folder / PERFORMANCES).read_text().count("\n") == 2
    assert not logging.getLogger("lib").handlers
    whole = run(experiment)
    assert len(whole.performances) == 3
    elsewhere = run(dataclasses.replace(experiment, runs_folder=str(tmp_path / "other")))
    assert whole.performances.equals(elsewhere.performances)


def test_news_trains_on_the_real_corpus(newsgroups_folder, tmp_path):
    experiment = Experiment(
        dataset="news",
        data_folder=str(newsgroups_folder),
        runs_folder=str(tmp_path),
        network="news_mlp",
        optimizer="adam",
        learning_rate=1e-4,
        batch_size=128,
        epochs=1,
        window=1,
        noise_rate=0.2,
        validation_share=0.8,
        signal_samples=500,
        criteria=("cnd", "known_polluted_accuracy"),
    )
    assert run(experiment).performances["test_accuracy"].iloc[-1] > 0.5


@pytest.mark.slow
def test_divergence_at_every_hidden_layer(tmp_path):
    settings = {"runs_folder": str(tmp_path), "network": "small_cnn", "epochs": 2, "window": 1, "signal_samples": 300}
    everywhere = run(Experiment(cnd_stored_layers=["all"], **settings))
    last = run(Experiment(**settings))
    assert everywhere.layers == {"0": 16, "2": 32, "4": 64, "8": 256}
    assert last.layers == {"8": 256}
    assert everywhere.divergence.shape == (2, 368)
    assert np.array_equal(everywhere.divergence[:, -256:], last.divergence)
    assert np.array_equal(everywhere.performances["cnd"], last.performances["cnd"])
    named = run(Experiment(cnd_layer="4", cnd_stored_layers=["0"], **settings))
    assert named.layers == {"0": 16, "4": 64}
    assert np.allclose(named.performances["cnd"], np.quantile(everywhere.divergence[:, 48:112], 0.9, axis=1))


def test_a_layer_is_read_where_a_pass_reaches_it_last_and_must_be_reached(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.again, self.last = nn.Linear(64, 9), nn.Linear(9, 9), nn.Linear(9, 10)
            self.idle = nn.Linear(9, 9)

        def forward(self, x):
            return self.last(self.again(self.again(self.first(x.flatten(1)))))

    models.register("twice", lambda s, k, p: Twice())
    assert Training(Experiment(network="twice")).layers == {"again": 9}
    with pytest.raises(ParameterError, match=r"cnd_layer='idle': must be a layer that a forward pass reaches$"):
        run(Experiment(runs_folder=str(tmp_path), network="twice", cnd_layer="idle"))
    with pytest.raises(ParameterError, match=r"cnd_stored_layers='frist': must be one of .*; did you mean 'first'"):
        run(Experiment(runs_folder=str(tmp_path), network="twice", cnd_layer="last", cnd_stored_layers=["frist"]))


def rates(**settings):
    """The learning rate of each epoch of a run of eight."""
    experiment = Experiment(epochs=8, learning_rate=0.4, **settings)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=experiment.learning_rate)
    schedule = steps.make_schedule(experiment, optimizer)
    told = []
    for _ in range(8):
        told.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return told


def test_learning_rate_schedules_are_those_of_their_formulas():
    assert rates() == [0.4] * 8
    steps = rates(schedule="multi_step", milestones=[2, 5], decay=0.5)
    assert steps == pytest.approx([0.4, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1, 0.1])
    cosine = [0.2 * (1 + np.cos(np.pi * epoch / 8)) for epoch in range(8)]
    assert rates(schedule="cosine") == pytest.approx(cosine)


@pytest.mark.slow
def test_the_schedule_reaches_the_network(tmp_path):
    settings = {"runs_folder": str(tmp_path), "epochs": 5}
    constant = run(Experiment(**settings)).performances
    stepped = run(Experiment(schedule="multi_step", milestones=[2], decay=1e-6, **settings)).performances
    assert constant[:2].equals(stepped[:2])
    assert stepped["train_loss"][2:].std() < 1e-4 < constant["train_loss"][2:].std()


@pytest.mark.slow
def test_adamw_decays_weights_apart_from_the_gradient(tmp_path):
    settings = {"runs_folder": str(tmp_path), "epochs": 5, "learning_rate": 1e-3, "weight_decay": 0.5}
    together, apart = (run(Experiment(optimizer=name, **settings)).performances for name in ("adam", "adamw"))
    assert not together["train_loss"].equals(apart["train_loss"])


def test_bfloat16_without_the_hardware_says_so(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(training, "has_bfloat16", lambda device: False)
    run(Experiment(runs_folder=str(tmp_path), dtype="bfloat16", epochs=1, window=1))
    assert "dtype='bfloat16': cpu has no such arithmetic, so it is no faster than float32" in caplog.text


@pytest.mark.slow
def test_channels_last_trains_alike(tmp_path):
    settings = {"runs_folder": str(tmp_path), "network": "small_cnn", "epochs": 2, "window": 1}
    plain, other = (run(Experiment(memory_format=m, **settings)).performances for m in ("contiguous", "channels_last"))
    assert np.allclose(plain["train_loss"], other["train_loss"], atol=1e-3)


def test_human_labels_on_real_images(cifar_folder, tmp_path):
    experiment = Experiment(
        dataset="cifar10",
        data_folder=str(cifar_folder),
        runs_folder=str(tmp_path),
        noise="worse_label",
        noise_rate=0,
        train_samples=2000,
        test_samples=500,
        network="small_cnn",
        augmentation="crop_flip",
        memory_format="channels_last",
        schedule="cosine",
        momentum=0.9,
        learning_rate=0.02,
        epochs=6,
    )
    finished = run(experiment)
    assert finished.performances["test_accuracy"].iloc[-1] > 0.2
    assert "re-encoded" in finished.source
    assert "reduced: 2,000 of 50,000 training samples, 500 of 10,000 test samples" in finished.source


def test_a_run_of_another_version_of_an_own_network_is_not_read(tmp_path, monkeypatch):
    def narrow(shape, classes, dropout):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, classes))

    def wide(shape, classes, dropout):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 90), nn.ReLU(), nn.Linear(90, classes))

    models.register("own", narrow)
    experiment = Experiment(runs_folder=str(tmp_path), network="own", epochs=1, window=1)
    first = run(experiment)
    assert run(experiment) == first
    models.register("own", wide)
    with pytest.raises(FileExistsError, match="holds a run of another version of your own network; remove it"):
        run(experiment)
    with pytest.raises(ParameterError, match="name='my/own': must be letters, digits, _ and -"):
        models.register("my/own", wide)


def test_a_run_of_another_version_of_an_own_criterion_is_not_read(tmp_path, monkeypatch):
    def constant(view):
        return np.float64(0.5)  # NumPy's own numbers are numbers

    def rising(view):
        return float(view.seen.logits.abs().mean())

    experiment = {"runs_folder": str(tmp_path), "criteria": ["own"], "epochs": 1, "window": 1}
    monkeypatch.setitem(CRITERIA, "own", Criterion("own", "Own", constant, "max", "1"))
    assert run(Experiment(**experiment)).performances["own"].tolist() == [0.5]
    monkeypatch.setitem(CRITERIA, "own", Criterion("own", "Own", rising, "max", "1"))
    with pytest.raises(FileExistsError, match="another version of your own criterion own; remove it"):
        run(Experiment(**experiment))


def test_the_own_layer_is_the_last_of_those_at_its_place(tmp_path):
    stored = ["4", "1", "4:mean"]
    finished = run(
        Experiment(runs_folder=str(tmp_path), cnd_stored_layers=stored, epochs=2, window=1, criteria=["cnd"])
    )
    assert list(finished.layers) == ["1", "4:mean", "4"]
    (read,) = finished_runs(load(tmp_path), tmp_path)
    assert read.own.layer == "4"


@pytest.mark.parametrize("loss", ["cross_entropy", "mean_absolute_error"])
def test_losses_are_computed_in_single_precision(loss):
    seen = []
    experiment = Experiment(dtype="bfloat16", loss=loss)
    step = training.Step(experiment, nn.Linear(4, 3))
    function = step.loss_function
    step.loss_function = lambda logits, labels: seen.append(function(logits, labels)) or seen[-1]
    step(torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    assert seen[0].dtype == torch.float32


@pytest.mark.slow
def test_several_recording_points_of_one_run(tmp_path):
    settings = {"network": "small_cnn", "epochs": 1, "window": 1, "criteria": ["cnd"], "cnd_filter": "all"}
    stored = ["4:mean", "0", "4", "4:max"]
    finished = run(Experiment(runs_folder=str(tmp_path), cnd_layer="4", cnd_stored_layers=stored, **settings))
    assert list(finished.layers.items()) == [("0", 16), ("4:mean", 64), ("4:max", 64), ("4", 64)]
    mean, most, own = np.split(finished.divergence[0, 16:], 3)
    assert np.array_equal(own, most)  # as cnd_pooling is max
    assert not np.array_equal(own, mean)
    assert finished.performances["cnd"][0] == pytest.approx(np.quantile(own, 0.9), abs=1e-6)
    by_mean = run(Experiment(runs_folder=str(tmp_path), cnd_layer="4", cnd_pooling="mean", **settings))
    assert np.array_equal(by_mean.divergence[0], mean)


def test_in_residual_networks_the_last_block_is_recorded():
    experiment = Experiment(network="preact_resnet9", train_samples=64, test_samples=20, probe_size=5)
    assert Training(experiment).layers == {"stages.3.0": 512}
