import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from lib.batches import Indexed
from lib.checks import ParameterError
from tests.loops.conftest import EPOCHS, RULE, check_restored, check_resumed, network

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from lib.loops.huggingface import MemorizationStopping  # noqa: E402

pytestmark = pytest.mark.slow


class Named(torch.utils.data.Dataset):
    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, place):
        x, labels, _ = self.samples[place]
        return {"x": x, "labels": labels}


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, x, labels=None):
        logits = self.body(x)
        loss = None if labels is None else cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def train(samples, folder, stopping, epochs=EPOCHS, resume=None, **settings):
    settings = {"remove_unused_columns": False, "save_strategy": "epoch"} | settings
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=16,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        **settings,
    )
    model = Classifier()
    trainer = transformers.Trainer(model, arguments, train_dataset=Indexed(Named(samples)), callbacks=[stopping])
    trainer.train(resume_from_checkpoint=resume)
    return trainer, model


@pytest.mark.parametrize("saved", [{"save_strategy": "epoch"}, {"save_strategy": "steps", "save_steps": 18}], ids=str)
def test_a_resumed_training_stops_at_the_same_epoch(samples, tmp_path, saved):
    whole = MemorizationStopping(**RULE)
    trainer, model = train(samples, tmp_path / "whole", whole)
    assert trainer.state.epoch == whole.stopper.epoch
    assert [entry["cnd"] for entry in trainer.state.log_history if "cnd" in entry][-1] == whole.stopper.signals["cnd"]
    check_restored(model, whole.stopper)
    train(samples, tmp_path / "begun", MemorizationStopping(**RULE), epochs=3, **saved)  # of six steps each
    resumed = MemorizationStopping(**RULE)
    train(samples, tmp_path / "begun", resumed, resume=True)
    check_resumed(whole.stopper, resumed.stopper)
    with pytest.raises(
        ParameterError, match=r"must hold memorization.pt; where the checkpoint is not in output_dir, T"
    ):
        train(samples, tmp_path / "new", resumed, resume=str(tmp_path / "begun" / "checkpoint-18"))


def test_batches_may_make_a_step_together(samples, tmp_path):
    stopping = MemorizationStopping(**RULE)
    train(samples, tmp_path, stopping, epochs=1, gradient_accumulation_steps=2, save_strategy="no")
    assert stopping.stopper.state_dict()["steps_of_epoch"] == 3
    assert stopping.stopper.state_dict()["watcher"]["kept"] == 96


def test_columns_that_are_removed_are_refused(samples, tmp_path):
    with pytest.raises(ParameterError, match="remove_unused_columns=True: must be False"):
        train(samples, tmp_path, MemorizationStopping(**RULE), remove_unused_columns=True)


@pytest.fixture
def configured(monkeypatch):
    """Networks that `Trainer` smoothes labels for."""
    monkeypatch.setattr(Classifier, "config", transformers.PretrainedConfig(), raising=False)


def test_labels_that_the_trainer_keeps_to_itself_are_refused(samples, tmp_path, configured):
    with pytest.raises(ParameterError, match=r"label_smoothing_factor=0\.1: must be 0 without data=, as no labels"):
        train(samples, tmp_path, MemorizationStopping(**RULE), label_smoothing_factor=0.1)


def test_data_can_be_looked_at_instead(samples, tmp_path, configured):
    data, smoothed = TensorDataset(*samples.tensors[:2]), {"label_smoothing_factor": 0.1}
    stopping = MemorizationStopping(data=data, **RULE)
    train(samples, tmp_path, stopping, epochs=3, save_strategy="no", remove_unused_columns=True, **smoothed)
    assert stopping.stopper.signals["cnd"] > 0


def test_a_training_begins_cleanly_after_one_that_was_interrupted(samples, tmp_path):
    class Interrupting(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **_more):
            if state.global_step == 8:
                raise KeyboardInterrupt

    stopping = MemorizationStopping(**RULE)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=16,
        remove_unused_columns=False,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    model, data, interrupting = Classifier(), Indexed(Named(samples)), Interrupting()
    trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=[stopping, interrupting])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.remove_callback(interrupting)
    trainer.train()
    assert stopping.stopper.epoch == 2
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
