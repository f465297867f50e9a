"""Writing a run folder while the run goes on; `lib.runs.folder` says what lies in it, and reads it back."""

import io
import json
import logging
import platform
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import torch

from lib.files import write_whole
from lib.parameters import PLACES, Experiment
from lib.runs import checkpoints
from lib.runs.checkout import commit
from lib.runs.folder import ARGS, DIVERGENCE, LOCK, LOG, PERFORMANCES, WEIGHTS, WEIGHTS_AVERAGE, Run
from lib.runs.locks import Lock

_log = logging.getLogger("lib")


class RunWriter:
    """Writes one run's folder; use it in a `with` statement.

    What an earlier, unfinished run left is gone on with where a checkpoint allows it, else replaced.

    Args:
        experiment: what is run.
        about: what is known of the data: source, classes, train_samples, test_samples, realised_noise_rate.
        layers: neurons of each layer whose divergences are recorded, in their order.
        own: what tells another version of the user's own data and code, see `lib.runs.folder.Run.own`.

    Attributes:
        finished: the run, where another process finished it before this one got the folder; nothing is written then.
        state: of the training to go on with, as `checkpoint` took it; None where the run starts anew.

    Raises RunInUse on entering where another process is writing the same run.
    """

    def __init__(self, experiment: Experiment, about: dict[str, Any], layers: dict[str, int], own: dict[str, str]):
        self.experiment, self.folder = experiment, experiment.folder
        self.finished: Run | None = None
        self.state: dict[str, Any] | None = None
        self._environment = environment(experiment.device)
        self._content = {
            "parameters": experiment.parameters(),
            "data": about,
            "layers": layers,
            "own": own,
        }
        self._rows: list[list[float]] = []
        self._columns: list[str] = []
        self._divergence: list[np.ndarray] = []

    def __enter__(self) -> "RunWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(Lock(self.folder / LOCK))
            self.finished = Run.find(self.experiment)
            if self.finished is None:
                handler = stack.enter_context(closing(logging.FileHandler(self.folder / LOG)))
                handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
                _log.setLevel(logging.INFO)
                _log.addHandler(handler)
                stack.callback(_log.removeHandler, handler)
                stack.push(self._say_why)
                self._begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def _say_why(self, kind, error, _traceback) -> None:
        if error is not None:
            _log.error("stopped after record %d: %s: %s", len(self._rows), kind.__name__, error)

    def _begin(self) -> None:
        for left_by_a_killed_process in self.folder.glob("*.part"):
            left_by_a_killed_process.unlink()
        stored = checkpoints.load(self.folder, self.experiment.device)
        for name in (WEIGHTS, WEIGHTS_AVERAGE):
            (self.folder / name).unlink(missing_ok=True)
        if stored:
            other = self._other(stored["content"])
            if not other:
                self._go_on(stored)
                return
            _log.warning("a checkpoint of other %s is removed", ", ".join(other))
        for name in (PERFORMANCES, DIVERGENCE, ARGS):
            (self.folder / name).unlink(missing_ok=True)
        checkpoints.remove(self.folder)
        self._describe()
        _log.info("start %s", self.experiment.name)

    def _other(self, content: dict[str, Any]) -> list[str]:
        """In what the run that a checkpoint is of is another one; where a run and its data lie is no part of it."""
        before, now = (
            one | {"parameters": {name: value for name, value in one["parameters"].items() if name not in PLACES}}
            for one in (content, self._content)
        )
        return [what for what in now if before.get(what) != now[what]]

    def _go_on(self, stored: dict[str, Any]) -> None:
        now, self._environment = self._environment, stored["environment"]
        self._describe()
        self._columns, self._rows, divergence = stored["columns"], stored["rows"], stored["divergence"]
        self._divergence = [] if divergence is None else list(divergence.cpu().numpy())
        text = _line(self._columns) + "".join(map(_line, self._rows)) if self._rows else ""
        write_whole(self.folder / PERFORMANCES, lambda part: part.write_text(text))
        if self._divergence:
            self._write_divergence(self._divergence)
        self.state = stored["state"]
        _log.info("go on after record %d", len(self._rows))
        for what, before in self._environment.items():
            if now[what] != before:
                _log.warning("the run began with %s %s, now it is %s", what, before, now[what])

    def _describe(self) -> None:
        args = {"name": self.experiment.name, "environment": self._environment, **self._content}
        write_whole(self.folder / ARGS, lambda part: part.write_text(json.dumps(args, indent=2) + "\n"))

    @property
    def records(self) -> int:
        """How many records there are."""
        return len(self._rows)

    def write(self, epoch: float, values: dict[str, float], divergence: np.ndarray | None) -> None:
        """Append a record.

        Args:
            epoch: passes made over the training data, a fraction within an epoch.
            values: a number for each column, the same columns at every record.
            divergence: CND in bits of each neuron, shape (neurons,); None where there is none at any record.
        """
        if divergence is not None:
            self._divergence.append(divergence.astype(np.float32))
            self._write_divergence(self._divergence[-1:])
        row = {"record": len(self._rows) + 1, "epoch": epoch, **values}
        self._columns = list(row)
        self._rows.append(list(row.values()))
        header = _line(self._columns) if len(self._rows) == 1 else ""
        with (self.folder / PERFORMANCES).open("a") as file:
            file.write(header + _line(self._rows[-1]))
        _log.info("record %d: %s", len(self._rows), " ".join(f"{k}={v:.4g}" for k, v in values.items()))

    def _write_divergence(self, rows: list[np.ndarray]) -> None:
        """The last of the rows recorded. The file is made whole at the first; mapped, a full disk would kill."""
        path, first = self.folder / DIVERGENCE, len(self._divergence) - len(rows)
        if first == 0:
            whole = np.full((self.experiment.records, len(rows[0])), np.nan, dtype=np.float32)
            whole[: len(rows)] = rows
            content = io.BytesIO()
            np.save(content, whole)
            write_whole(path, lambda part: part.write_bytes(content.getbuffer()))
            return
        begins = np.load(path, mmap_mode="r").offset
        with path.open("r+b") as file:
            file.seek(begins + first * rows[0].nbytes)
            file.write(np.stack(rows).tobytes())

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Keep the state of the training with all that was recorded; that it cannot be kept is a warning, no error."""
        divergence = torch.from_numpy(np.stack(self._divergence)) if self._divergence else None
        recorded = {"columns": self._columns, "rows": self._rows, "divergence": divergence}
        about = {"content": self._content, "environment": self._environment}
        try:
            checkpoints.save(self.folder, {**about, **recorded, "state": state})
        except OSError as error:  # the run may well end without it
            _log.warning("no checkpoint after record %d: %s", self.records, error)

    def finish(self, weights: dict[str, torch.Tensor], average: dict[str, torch.Tensor] | None = None) -> Run:
        """Store the final weights, and their average where there is one, which marks the run as finished."""
        for name, values in ((WEIGHTS_AVERAGE, average), (WEIGHTS, weights)):
            if values is not None:
                self._store(name, values)
        checkpoints.remove(self.folder)
        _log.info("finished")
        return Run(self.experiment, self.folder)

    def _store(self, name: str, weights: dict[str, torch.Tensor]) -> None:
        content = io.BytesIO()  # torch on a full disk does not say that it is full
        torch.save(weights, content)
        write_whole(self.folder / name, lambda part: part.write_bytes(content.getbuffer()))


def _line(values: Sequence[str] | Sequence[float]) -> str:
    return ",".join(value if isinstance(value, str) else repr(value) for value in values) + "\n"


def environment(device: str) -> dict[str, str | None]:
    """Versions, commit and device that a result depends on."""
    # Sums are rounded in another order with another instruction set.
    processor = f"{platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "commit": commit(),
        "device": processor if device == "cpu" else torch.cuda.get_device_name(device),
    }
