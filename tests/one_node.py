"""A Slurm of one node on this machine, for tests: munged, slurmctld and slurmd in a folder of their own."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch")
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={slurmd_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdTimeout=20
KillWait=10
MinJobAge=300
MaxArraySize=1001
JobRequeue=1
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def absent() -> str | None:
    """Why there can be no Slurm here; None where there can."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"Slurm is not installed: {', '.join(missing)} missing (apt-get install slurm-wlm)"
    return None if os.getuid() == 0 else "Slurm is started by root only"


class OneNode:
    """The daemons; `start` waits until the node is idle. Raises RuntimeError where that does not happen."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.configuration = folder / "slurm.conf"
        self._processes: dict[str, subprocess.Popen] = {}

    def start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        settings = {"host": socket.gethostname(), "port": _free_port(), "slurmd_port": _free_port()}
        text = _CONFIGURATION.format(folder=self.folder, cpus=os.cpu_count(), **settings)
        self.configuration.write_text(text)
        os.environ["SLURM_CONF"] = str(self.configuration)
        self._start_munge()
        self._start("slurmctld")
        self.start_slurmd()

    def _start_munge(self) -> None:
        if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
            return
        place = Path("/run/munge")
        place.mkdir(exist_ok=True)
        shutil.chown(place, "munge", "munge")
        subprocess.run(["runuser", "-u", "munge", "--", "munged"], check=True, capture_output=True)

    def _start(self, name: str) -> None:
        with (self.folder / f"{name}.out").open("a") as out:
            command = [name, "-D", "-f", str(self.configuration)]
            self._processes[name] = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)

    def start_slurmd(self) -> None:
        """Start the daemon of the node."""
        self._start("slurmd")
        until(lambda: self.command("sinfo", "--noheader", "--format=%t").strip() in ("idle", "mix", "alloc"), 60)

    def kill_slurmd(self) -> None:
        """Kill the daemon of the node as a crash would; its jobs' processes live on."""
        self._processes["slurmd"].kill()
        self._processes["slurmd"].wait()

    def stop(self) -> None:
        self.command("scancel", "--me", "--signal=KILL", "--full")
        self.command("scancel", "--me")
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(timeout=30)

    def command(self, *command: str) -> str:
        """What a command of Slurm prints, tried again where Slurm is too busy to answer."""
        for _ in range(5):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                break
            time.sleep(0.5)
        return done.stdout


def until(condition, seconds: float) -> None:
    """Wait for a condition. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
