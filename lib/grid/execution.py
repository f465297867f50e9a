"""Executing a notebook headless by papermill, here or in a process of its own.

`python -m lib.grid.execution` executes one notebook after the other, each asked for by a line of standard input, a JSON
object of `notebook`, `output` and `parameters`, and answers each by a line: `failure` says what went wrong (null:
nothing), `stopped` whether a signal stopped the run that the notebook carries out, which can then go on.

No process outlives the one that began it: where that is killed, a kernel ends by itself (ipykernel watches its
parent), and this one stops its run with the state kept.
"""

import json
import logging
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import papermill
import psutil
from nbformat import NotebookNode
from traitlets.config import Config

from lib.files import digest

STOPPED = 75  # what sysexits.h calls a temporary failure: the user is invited to try again


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> str | None:
    """Execute a notebook by papermill; the executed notebook is `output`. Returns None, or what went wrong."""
    try:
        executed(notebook, parameters, output)
    except RuntimeError as error:
        return str(error)
    return None


def executed(notebook: Path, parameters: dict[str, Any], output: Path | None = None) -> NotebookNode:
    """The notebook as papermill executed it, which also writes it, cell after cell, where there is an output.

    The working folder stays that of the caller, as papermill would change it for all threads of the process; paths in
    notebooks start at the project root.

    Raises:
        RuntimeError: says what went wrong in the notebook or its kernel.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
        with _sockets() as folder:
            manager = {"transport": "ipc", "ip": f"{folder}/kernel", "connection_file": f"{folder}/connection.json"}
            return papermill.execute_notebook(
                notebook,
                output,
                parameters=parameters,
                progress_bar=False,
                kernel_name="python3",
                config=Config(KernelManager=manager),
                extra_arguments=["--log-level=CRITICAL"],
                shutdown_kernel="immediate",  # what matters is on disk by then
            )
    except papermill.PapermillExecutionError as error:
        raise RuntimeError(f"{error.ename}: {error.evalue}") from error
    except Exception as error:  # a dead kernel must not take other runs with it
        raise RuntimeError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


@contextmanager
def _sockets() -> Iterator[str]:
    """A folder for the sockets by which a kernel is spoken to; it is gone afterwards.

    Of kernels that processes start at the same time by TCP, two can be given the same port, and one dies (papermill's
    issue 511).
    """
    remove_leftovers()
    with tempfile.TemporaryDirectory(prefix=f"{_prefix()}{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        yield folder


def remove_leftovers() -> None:
    """Remove the sockets of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        process = int(folder.name.removeprefix(_prefix()).partition("-")[0])
        if not psutil.pid_exists(process):
            shutil.rmtree(folder, ignore_errors=True)


def _prefix() -> str:
    """Begins the names of such folders on this machine: where others share its temporary folder, pids say nothing."""
    return f"memorization-{digest(socket.gethostname(), os.getuid())}-"


def main() -> None:
    """Execute what each line of standard input asks for; asked to stop, let the run keep its state first, and end."""
    stopped = []

    def pass_on(_number, _frame):
        stopped.append(True)
        kernels = psutil.Process().children(recursive=True)
        if not kernels:
            sys.exit(STOPPED)  # nothing is being executed
        for kernel in kernels:
            kernel.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_stop_without_a_parent, daemon=True).start()
    for line in sys.stdin:
        asked = json.loads(line)
        failure = execute(Path(asked["notebook"]), Path(asked["output"]), asked["parameters"])
        print(json.dumps({"failure": failure, "stopped": bool(stopped)}), flush=True)
        if stopped:
            sys.exit(STOPPED)


def _stop_without_a_parent() -> None:
    """Stop this process when nobody holds the other end of standard input any more."""
    poll = select.poll()
    poll.register(sys.stdin, 0)  # of the events, hanging up alone
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
