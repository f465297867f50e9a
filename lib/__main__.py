"""The one command: grids of runs, on this machine or on Slurm, and what is made of them.

    python -m lib run slurm/demo.yaml --processes 2    what is missing, here
    python -m lib submit slurm/full.yaml               what is missing or failed, on Slurm
    python -m lib status slurm/full.yaml               what became of each run
    python -m lib report --runs runs                   tables, figures and report of the runs that are there
    python -m lib archive runs                         finished runs added to the logs that are kept with the code
    python -m lib paper                                the figures that are kept with the code, from the logs that are
    python -m lib import results                       results of the described original, as run folders

A run that was interrupted goes on where it was. Exit status: 0; 1 where a run or the report failed; 2 for what is
wrong before anything begins; 75 where a signal stopped runs that can go on; 130 for Ctrl-C.
"""

import argparse
import sys
from pathlib import Path

from lib.checks import NoSlurm, ParameterError, SlurmError
from lib.grid import tasks as grid
from lib.grid.execution import STOPPED
from lib.grid.tasks import Task
from lib.parameters import expanded

_PLACES = ("runs", "data", "figures", "folder", "logs")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        for name in _PLACES:
            if given := getattr(options, name, None):
                setattr(options, name, expanded(name, given))
        return options.command(options)
    except (ParameterError, SlurmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib", description="Grids of runs, and what is made of them.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text, description=text)
        one.set_defaults(command=function)
        return one

    run = command("run", _run, "run what is missing of a grid on this machine")
    submit = command("submit", _submit, "submit what is missing or failed of a grid to Slurm, then the report")
    status = command("status", _status, "tell what became of each run of a grid")
    for one in (run, submit, status):
        one.add_argument("grid", help="grid file, such as slurm/demo.yaml")
        one.add_argument("--data", help="data folder (default: what the grid file says)")
        one.add_argument("--runs", help="runs folder (default: what the grid file says)")
    for one in (run, submit):
        one.add_argument("--dry-run", action="store_true", help="only list the runs, and what is already done")
    run.add_argument("--processes", type=int, default=1, help="runs at a time (default 1)")
    submit.add_argument("--concurrent", type=int, help="array tasks at a time (default: slurm/cluster.yaml)")
    submit.add_argument("--pack", type=int, help="runs that share an array task (default: slurm/cluster.yaml)")
    submit.add_argument("--sbatch", default="", help='further options of sbatch, as in --sbatch="--time=2-0"')
    report = command("report", _report, "make tables, figures and report of the runs that are there")
    report.add_argument("--runs", default="runs", help="runs folder (default runs)")
    report.add_argument("--figures", help="folder to write to (default: figures in the runs folder)")
    paper = command("paper", _report, "rebuild the figures, tables and report that are kept with the code, from logs")
    paper.set_defaults(runs="logs", figures="figures")
    archive = command("archive", _archive, "add finished runs to the logs from which the paper is rebuilt")
    archive.add_argument("runs", help="runs folder")
    archive.add_argument("--logs", default="logs", help="folder of the logs (default logs)")
    imported = command("import", _import, "turn results of the described original into run folders")
    imported.add_argument("folder", help="holds args.json and performances.pkl, or folders that do")
    imported.add_argument("--runs", default="runs", help="runs folder (default runs)")
    prepare = command("prepare", _prepare, "download and prepare the data of submitted runs (a job does this)")
    task = command("task", _task, "run one task of a submitted array (a job does this)")
    for one in (prepare, task):
        one.add_argument("tasks", type=Path, help="file that submitting wrote")
    task.add_argument("index", type=int, help="of the array task")
    task.add_argument("--pack", type=int, default=1, help="runs that share an array task")
    return parser


def _tasks(options: argparse.Namespace) -> tuple[Task, ...]:
    places = {"data_folder": options.data, "runs_folder": options.runs}
    return grid.read(options.grid, **{name: place for name, place in places.items() if place})


def _run(options: argparse.Namespace) -> int:
    from lib.grid import pool
    from lib.grid.status import status

    if options.processes < 1:
        raise ParameterError(f"processes={options.processes}: must be an integer of at least 1")
    tasks = _tasks(options)
    if options.dry_run:
        return _list(tasks)
    missing = [task for task in tasks if status(task).state not in ("finished", "running")]
    print(f"{len(tasks) - len(missing)} of {len(tasks)} runs are there, {len(missing)} to run")
    outcome = pool.run(missing, options.processes)
    if outcome.signal:
        print(f"{outcome.signal}: what is done is kept, the same command goes on", file=sys.stderr)
    return _told(outcome)


def _told(outcome) -> int:
    """Name the runs that failed. Returns the exit status."""
    for name, failure in outcome.failures.items():
        print(f"failed {name}: {failure}", file=sys.stderr)
    if outcome.signal:
        return 130 if outcome.signal == "SIGINT" else STOPPED
    return 1 if outcome.failures else 0


def _submit(options: argparse.Namespace) -> int:
    from lib.grid.slurm import Cluster, submit

    cluster = Cluster.read(concurrent=options.concurrent, pack=options.pack)
    tasks = _tasks(options)
    if options.dry_run:
        return _list(tasks)
    jobs = submit(Path(options.grid), tasks, cluster, options.sbatch)
    print(f"submitted jobs {', '.join(jobs)}" if jobs else "nothing to submit: every run is finished or in the queue")
    return 0


def _status(options: argparse.Namespace) -> int:
    from lib.grid.status import status, table

    tasks, waiting = _tasks(options), _waiting()
    print(table(status(task, waiting) for task in tasks))
    return 0


def _list(tasks: tuple[Task, ...]) -> int:
    from lib.grid.status import counts, status

    waiting = _waiting()
    statuses = [status(task, waiting) for task in tasks]
    for one in statuses:
        print(f"{one.state:8} {one.name}")
    print(counts(statuses))
    return 0


def _waiting() -> set[Path] | None:
    """Folders of the runs in Slurm's queue; none where there is no Slurm, None where it could not be asked."""
    from lib.grid.slurm import queued

    try:
        return queued()
    except NoSlurm:
        return set()
    except SlurmError as error:
        print(f"Slurm's queue could not be asked, so what is in it is unknown: {error}")
        return None


def _report(options: argparse.Namespace) -> int:
    from lib.paper import report

    try:
        page = report.build(options.runs, options.figures or str(Path(options.runs) / "figures"))
    except (FileNotFoundError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    shown = page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page
    print(f"The report is {shown}, and {shown.with_suffix('.pdf').name} beside it")
    return 0


def _archive(options: argparse.Namespace) -> int:
    from lib.runs.archive import archive

    outcome = archive(options.runs, options.logs)
    for name, reason in outcome.refused.items():
        print(f"refused {name}: {reason}", file=sys.stderr)
    print(f"{len(outcome.added)} runs archived in {options.logs}, {len(outcome.there)} were there")
    return 1 if outcome.refused else 0


def _import(options: argparse.Namespace) -> int:
    from lib.legacy import convert

    outcome = convert(Path(options.folder), options.runs)
    for run in outcome.runs:
        print(f"{'imported' if run.new else 'is there'} {run.folder.name} from {run.source}")
        print(f"    left out: {'; '.join(run.left_out)}\n    note: {'; '.join(run.notes)}")
    for reason in outcome.left_out.values():
        print(f"left out {reason}")
    for failure in outcome.failures.values():
        print(f"error: {failure}", file=sys.stderr)
    return 1 if outcome.failures or not outcome.runs else 0


def _prepare(options: argparse.Namespace) -> int:
    from lib.data.loading import prepare

    experiments = [task.experiment for task in grid.read_tasks(options.tasks)]
    failures = prepare(experiments)
    for dataset, failure in failures.items():
        print(f"failed {dataset}: {failure}", file=sys.stderr)
    prepared = {experiment.dataset for experiment in experiments} - failures.keys()
    return 0 if prepared else 1


def _task(options: argparse.Namespace) -> int:
    from lib.grid.slurm import run_task

    return _told(run_task(grid.read_tasks(options.tasks), options.pack, options.index))


if __name__ == "__main__":
    sys.exit(main())
