"""Stopping long work on a signal at a moment that suits it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(Exception):
    """Work was asked to stop, has saved its state and can go on."""


class Request:
    """Whether the work was asked to stop; `signal` is the name of the signal, or None."""

    def __init__(self):
        self.signal: str | None = None

    def obey(self, state: str) -> None:
        """Stop, where that was asked: raises KeyboardInterrupt for Ctrl-C, else Interrupted."""
        if self.signal == "SIGINT":
            raise KeyboardInterrupt(state)
        if self.signal:
            raise Interrupted(f"{self.signal}: {state}")


@contextmanager
def requests() -> Iterator[Request]:
    """Note SIGINT, SIGTERM and SIGUSR1 while inside, instead of dying of them; a second Ctrl-C interrupts at once.

    In a thread other than the main one signals are left as they are.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def note(number, _frame):
        if number == signal.SIGINT and request.signal:
            raise KeyboardInterrupt
        request.signal = signal.Signals(number).name

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
