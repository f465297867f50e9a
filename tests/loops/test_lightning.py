import pytest
import torch
from torch.nn.functional import cross_entropy

from lib.checks import ParameterError
from tests.loops.conftest import EPOCHS, RULE, check_restored, check_resumed, network

lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

from lib.loops.lightning import MemorizationStopping  # noqa: E402

pytestmark = pytest.mark.slow


class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = network()

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch):
        x, labels, *_ = batch
        loss = cross_entropy(self(x), labels)
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def fit(loader, folder, *callbacks, epochs=EPOCHS, checkpoint=None):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_epochs=epochs, callbacks=[*callbacks], default_root_dir=folder, **quiet)
    module = Module()
    trainer.fit(module, loader, ckpt_path=checkpoint)
    return trainer, module


def test_a_resumed_training_stops_at_the_same_epoch(loader, tmp_path):
    whole = MemorizationStopping(**RULE)
    trainer, module = fit(loader, tmp_path, whole)
    assert trainer.current_epoch == whole.stopper.epoch
    assert trainer.callback_metrics["cnd"].item() == pytest.approx(whole.stopper.signals["cnd"], rel=1e-6)
    check_restored(module.model, whole.stopper)
    begun, _ = fit(loader, tmp_path, MemorizationStopping(**RULE), epochs=3)
    resumed = MemorizationStopping(**RULE)
    fit(loader, tmp_path, resumed, checkpoint=begun.checkpoint_callback.best_model_path)
    check_resumed(whole.stopper, resumed.stopper)


def test_a_training_goes_on_from_the_last_step_of_an_epoch(loader, tmp_path):
    whole, resumed = MemorizationStopping(**RULE), MemorizationStopping(**RULE)
    fit(loader, tmp_path, whole)
    saving = lightning.callbacks.ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=18)
    fit(loader, tmp_path, MemorizationStopping(**RULE), saving, epochs=3)
    fit(loader, tmp_path, resumed, checkpoint=tmp_path / "step=18.ckpt")
    check_resumed(whole.stopper, resumed.stopper)


def test_a_logged_metric_can_be_monitored_and_data_looked_at(loader, samples, tmp_path):
    rule = RULE | {"monitor": "loss", "mode": "min", "min_delta": 0.1}
    stopping = MemorizationStopping(data=samples, network="model", **rule)
    fit(loader, tmp_path, stopping)
    assert stopping.stopper.stop


def test_what_is_missing_is_said(loader, samples, tmp_path):
    with pytest.raises(ParameterError, match="network='net': must be one of model"):
        fit(loader, tmp_path, MemorizationStopping(network="net", **RULE))
    pairs = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*samples.tensors[:2]), 16)
    with pytest.raises(ParameterError, match=r"index=None: .* or data= to look at"):
        fit(pairs, tmp_path, MemorizationStopping(**RULE))


class Interrupting(lightning.Callback):
    """Writes a checkpoint in the middle of an epoch, and ends the training there."""

    def __init__(self, file):
        self.file = file

    def on_train_batch_end(self, trainer, *_told):
        if trainer.global_step == 15:  # of six steps an epoch
            trainer.save_checkpoint(self.file)
            trainer.should_stop = True
            trainer.limit_train_batches = 0


def test_a_training_goes_on_from_the_middle_of_an_epoch(loader, tmp_path):
    file = tmp_path / "middle.ckpt"
    fit(loader, tmp_path, MemorizationStopping(**RULE), Interrupting(file), epochs=3)
    resumed = MemorizationStopping(**RULE)
    fit(loader, tmp_path, resumed, checkpoint=file)
    assert resumed.stopper.stop
    assert resumed.stopper.epoch < EPOCHS
