"""Runs in other processes that pause at a record, so that tests need no clock to meet them at work."""

import os
from pathlib import Path

# Python imports a module of this name at its start. Writing a record opens its file to append.
_SITE = """\
import os, select, signal, sys
from pathlib import Path

PLACE, RECORD = Path(os.environ["PAUSING"]), int(os.environ["PAUSING_AT"])
opened = 0


def pause(event, arguments):
    global opened
    if event != "open" or arguments[1] != "a" or not str(arguments[0]).endswith("performances.csv"):
        return
    opened += 1
    if opened == RECORD and not (PLACE / "paused").exists():
        signals, waking = os.pipe()
        os.set_blocking(waking, False)
        before = signal.set_wakeup_fd(waking)
        (PLACE / "paused").touch()
        while not (PLACE / "go").exists() and not select.select([signals], [], [], 0.05)[0]:
            pass
        signal.set_wakeup_fd(before)


sys.addaudithook(pause)
"""


class Pause:
    """The first run that comes to a record waits there until it gets a signal, or is let go on.

    Attributes:
        environment: variables of the processes that this is for.
    """

    def __init__(self, folder: Path, record: int = 2):
        self._folder = folder
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_SITE)
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        self.environment = {"PYTHONPATH": path, "PAUSING": str(folder), "PAUSING_AT": str(record)}

    @property
    def reached(self) -> bool:
        return (self._folder / "paused").exists()

    def end(self) -> None:
        (self._folder / "go").touch()
