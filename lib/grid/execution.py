"""Executing a notebook headless by papermill, here or in a process of its own.

`python -m lib.grid.execution` executes one notebook after the other, each asked for by a line of standard input, a JSON
object of `notebook`, `output` and `parameters`, and answers each by a line: `failure` says what went wrong (null:
nothing), `stopped` whether a signal stopped the run that the notebook carries out, which can then go on.
"""

import json
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import papermill
import psutil
from nbformat import NotebookNode
from traitlets.config import Config

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
    notebooks start at the project root. The kernel is spoken to by sockets in a folder of its own: of kernels that
    processes start at the same time by TCP, two can be given the same port, and one dies (papermill's issue 511).

    Raises:
        RuntimeError: says what went wrong in the notebook or its kernel.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as sockets:
            return papermill.execute_notebook(
                notebook,
                output,
                parameters=parameters,
                progress_bar=False,
                kernel_name="python3",
                config=Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/kernel"}),
                extra_arguments=["--log-level=CRITICAL"],
                shutdown_kernel="immediate",  # what matters is on disk by then
            )
    except papermill.PapermillExecutionError as error:
        raise RuntimeError(f"{error.ename}: {error.evalue}") from error
    except Exception as error:  # a dead kernel must not take other runs with it
        raise RuntimeError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def main() -> None:
    """Execute what each line of standard input asks for; asked to stop, let the run keep its state first, and end."""
    stopped = []

    def pass_on(_number, _frame):
        stopped.append(True)
        kernels = psutil.Process().children(recursive=True)
        if not kernels:
            os._exit(STOPPED)  # nothing is being executed
        for kernel in kernels:
            kernel.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        asked = json.loads(line)
        failure = execute(Path(asked["notebook"]), Path(asked["output"]), asked["parameters"])
        print(json.dumps({"failure": failure, "stopped": bool(stopped)}), flush=True)
        if stopped:
            sys.exit(STOPPED)


if __name__ == "__main__":
    main()
