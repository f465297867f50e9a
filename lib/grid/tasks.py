"""A grid of runs, from one readable file.

A grid file names the notebook, parameters of every run, and settings; a list of values stands for one run each, and
all combinations are run:

    notebook: digits
    parameters: {epochs: 60, seed: [0, 1, 2]}
    settings:
      - {noise: symmetric, noise_rate: [0.2, 0.4]}
      - {noise: pair, noise_rate: 0.4}

What a grid file does not name has the default of `lib.parameters.Experiment`. Or it names other grid files beside it,
whose runs it unites:

    include: [news.yaml, cifar10.yaml]
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lib.checks import ParameterError, check_choice
from lib.parameters import ROOT, Experiment, expanded

NOTEBOOKS = ROOT / "notebooks"
_KEYS = ["notebook", "parameters", "settings", "include"]
# Parameters whose value is itself a list.
_LISTS = {name for name, field in Experiment.__dataclass_fields__.items() if isinstance(field.default, tuple)}


@dataclass(frozen=True)
class Task:
    """An experiment, and the notebook that runs it."""

    notebook: Path
    experiment: Experiment

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.experiment.name


def read(file: Path | str, **overrides: Any) -> tuple[Task, ...]:
    """The tasks of a grid file, each checked and once; overrides hold for every run. Raises ParameterError."""
    found = (task for one in files(file) for task in _tasks(one, overrides))
    return tuple({task.name: task for task in found}.values())


def files(file: Path | str) -> tuple[Path, ...]:
    """The grid files that a grid includes, themselves without includes; the file itself where it includes none.

    Raises ParameterError.
    """
    return _files(_place(file), ())


def _files(file: Path, within: tuple[Path, ...]) -> tuple[Path, ...]:
    content = read_yaml("grid", file, _KEYS)
    if "include" not in content:
        return (file,)
    names, within_this = content["include"], (*within, file.resolve())
    if len(content) > 1 or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ParameterError(f"include={names!r}: must be a list of grid files, and alone in its file")
    if file.resolve() in within:
        raise ParameterError(f"include={names!r}: {file} must not include itself")
    return tuple(one for name in names for one in _files(file.parent / _place(name), within_this))


def write_tasks(file: Path, tasks: Sequence[Task]) -> Path:
    """Keep tasks as they are, for `read_tasks`. Returns the file."""
    content = [{"notebook": task.notebook.stem, "parameters": task.experiment.parameters()} for task in tasks]
    file.write_text(json.dumps(content, indent=1) + "\n")
    return file


def read_tasks(file: Path | str) -> tuple[Task, ...]:
    """The tasks that `write_tasks` kept. Raises ParameterError."""
    try:
        content = json.loads(Path(file).read_text())
        return tuple(
            Task(NOTEBOOKS / f"{one['notebook']}.ipynb", Experiment.from_dict(one["parameters"])) for one in content
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ParameterError):
            raise
        raise ParameterError(f"tasks={str(file)!r}: must be a file that submitting wrote: {error}") from error


def _place(file: Path | str) -> Path:
    return Path(expanded("grid", str(file)))


class _Once(yaml.SafeLoader):
    """A loader to which a name given twice is an error; YAML's would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in names[:place]:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(parameter: str, file: Path, known: list[str]) -> dict[str, Any]:
    """Names and values of a YAML file, the names among those known. Raises ParameterError."""
    told = f"{parameter}={str(file)!r}"
    try:
        content = yaml.load(file.read_text(), _Once)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParameterError(f"{told}: must be a readable YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict | None):
        raise ParameterError(f"{told}: must hold names and values")
    for key in content or {}:
        check_choice(f"name in {file.name}", str(key), known)
    return content or {}


def _tasks(file: Path, overrides: dict[str, Any]) -> Iterator[Task]:
    content = read_yaml("grid", file, _KEYS)
    names = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    check_choice("notebook", content.get("notebook"), names)
    common = content.get("parameters") or {}
    settings = content.get("settings") or [{}]
    if not (isinstance(common, dict) and isinstance(settings, list) and all(isinstance(s, dict) for s in settings)):
        raise ParameterError(f"grid={str(file)!r}: parameters must be names and values, settings a list of such")
    for setting in settings:
        for combination in _combinations(common | setting | overrides):
            yield Task(NOTEBOOKS / f"{content['notebook']}.ipynb", Experiment.from_dict(combination))


def _combinations(parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    values = []
    for name, value in parameters.items():
        if value == [] and name not in _LISTS:
            raise ParameterError(f"{name}=[]: must be a value or a list of at least one")
        values.append(value if isinstance(value, list) and name not in _LISTS else [value])
    for combination in itertools.product(*values):
        yield dict(zip(parameters, combination, strict=True))
