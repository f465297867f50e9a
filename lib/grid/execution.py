"""Executing a notebook headless by papermill, here or in a process of its own.

`python -m lib.grid.execution NOTEBOOK OUTPUT PARAMETERS`, the last as a JSON object, prints what went wrong. Its exit
status is 0, 1 where something did, or 75 where a signal stopped it and the run of the notebook kept its state.

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
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import psutil
from traitlets.config import Config

from lib.files import digest

if TYPE_CHECKING:
    from nbformat import NotebookNode

STOPPED = 75  # what sysexits.h calls a temporary failure: the user is invited to try again
# How folders of sockets begin on this machine: where others share its temporary folder, their pids say nothing here.
_SOCKETS = f"memorization-{digest(f'{socket.gethostname()} {os.getuid()}')}-"


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> str | None:
    """Execute a notebook by papermill; the executed notebook is `output`. Returns None, or what went wrong."""
    try:
        executed(notebook, parameters, output)
    except RuntimeError as error:
        return str(error)
    return None


def executed(notebook: Path, parameters: dict[str, Any], output: Path | None = None) -> "NotebookNode":
    """The notebook as papermill executed it, which also writes it, cell after cell, where there is an output.

    The working folder stays that of the caller, as papermill would change it for all threads of the process; paths in
    notebooks start at the project root. The kernel is spoken to by sockets in a folder of its own: of kernels that
    processes start at the same time by TCP, two can be given the same port, and one dies (papermill's issue 511).

    Raises:
        RuntimeError: says what went wrong in the notebook or its kernel.
    """
    papermill = _papermill()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers()
        with tempfile.TemporaryDirectory(prefix=f"{_SOCKETS}{os.getpid()}-", ignore_cleanup_errors=True) as folder:
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


def _papermill() -> ModuleType:
    """papermill, which only those who execute a notebook wait for, without a grammar that takes seconds to compile.

    jsonschema imports a checker of internationalised addresses, and does without where there is none (its issue 1428);
    no schema of a notebook asks for it.
    """
    absent = sys.modules.setdefault("rfc3987_syntax", None) is None  # type: ignore[arg-type]
    import papermill

    if absent:
        sys.modules.pop("rfc3987_syntax", None)
    return papermill


def remove_leftovers() -> None:
    """Remove the sockets of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SOCKETS}*"):
        if not psutil.pid_exists(int(folder.name.removeprefix(_SOCKETS).partition("-")[0])):
            shutil.rmtree(folder, ignore_errors=True)


def main(notebook: str, output: str, parameters: str) -> int:
    """Execute a notebook; asked to stop, let the run keep its state first. Returns the exit status."""
    stopped = []

    def pass_on(_number, _frame):
        stopped.append(True)
        kernels = psutil.Process().children(recursive=True)
        if not kernels:
            sys.exit(STOPPED)
        for kernel in kernels:
            with suppress(psutil.NoSuchProcess):
                kernel.terminate()

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_stop_without_a_parent, daemon=True).start()
    failure = execute(Path(notebook), Path(output), json.loads(parameters))
    print(failure or "", flush=True)
    return STOPPED if stopped else int(failure is not None)


def _stop_without_a_parent() -> None:
    """Stop this process when nobody holds the other end of standard input any more."""
    poll = select.poll()
    poll.register(sys.stdin, 0)  # of the events, hanging up alone
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
