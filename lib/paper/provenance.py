"""Where a figure or table is from: notebook, commit, runs and data, as its metadata and in the report."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from lib.runs.checkout import commit
from lib.study.naming import sources

FILE = "provenance_{notebook}.json"


@dataclass(frozen=True)
class Provenance:
    """What made an artifact, and of what.

    Attributes:
        notebook: that made it, as in "notebooks/summary_figures.ipynb".
        commit: of the code that made it; ends in "-dirty" where files differed from it.
        runs: names of the runs that it shows; none where the notebook trained by itself.
        source: where their data is from.
    """

    notebook: str
    commit: str
    runs: tuple[str, ...]
    source: str

    @classmethod
    def of(cls, notebook: str, runs: pd.DataFrame) -> "Provenance":
        """Of what a notebook makes of some runs, a table of `lib.runs.load`."""
        names = tuple(sorted(str(name) for name in runs["run"].unique()))
        return cls(f"notebooks/{notebook}.ipynb", commit() or "unknown", names, sources(runs))

    @classmethod
    def of_data(cls, notebook: str, source: str) -> "Provenance":
        """Of what a notebook makes of data, without runs."""
        return cls(f"notebooks/{notebook}.ipynb", commit() or "unknown", (), source)

    def text(self) -> str:
        """All of it in plain words, for the metadata of a file."""
        count = f"{len(self.runs)} run{'' if len(self.runs) == 1 else 's'}"
        runs = f" from {count} ({', '.join(self.runs)})" if self.runs else ""
        return f"Made by {self.notebook} at commit {self.commit}{runs}. {self.source}."


def write(made: dict[str, Provenance], notebook: str, folder: Path) -> Path:
    """Keep the provenance of each artifact that a notebook made, by file name, for the report and for readers."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE.format(notebook=notebook)
    path.write_text(json.dumps({name: asdict(one) for name, one in made.items()}, indent=1) + "\n")
    return path


def read(folder: Path) -> dict[str, Provenance]:
    """The provenance of every artifact in a folder, by file name."""
    found = {}
    # The newest last: what two notebooks made is from the one that made it last.
    for path in sorted(folder.glob(FILE.format(notebook="*")), key=lambda path: path.stat().st_mtime_ns):
        for name, one in json.loads(path.read_text()).items():
            found[name] = Provenance(**one | {"runs": tuple(one["runs"])})
    return found
