"""Where a figure or table is from: notebook, commit, runs and data, as its metadata and in the report."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from lib.catalogue import NOISES, noise_title
from lib.files import write_whole
from lib.runs.checkout import commit

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


def sources(runs: pd.DataFrame) -> str:
    """Where the data of some runs is from: every source, with the realised noise where it is not the rate asked for.

    Args:
        runs: table of `lib.runs.load`.
    """
    told = "; ".join(dict.fromkeys(runs["source"]))
    realised = runs[~runs["noise"].isin([name for name, row in NOISES.items() if row.exact])]
    means = realised.groupby(["noise", "noise_rate"], observed=True)["realised_noise_rate"].mean()
    rates = [f"{noise_title(*key)} {100 * rate:.1f}%" for key, rate in means.dropna().items()]
    return f"{told}; realised noise: {', '.join(rates)}" if rates else told


def write(made: dict[str, Provenance], notebook: str, folder: Path) -> Path:
    """Keep the provenance of all that a notebook made, by name of the figure or table, for the report and for readers.

    What it made before is forgotten; what other notebooks made is not touched.
    """
    path = folder / FILE.format(notebook=notebook)
    text = json.dumps({name: asdict(one) for name, one in made.items()}, indent=1) + "\n"
    write_whole(path, lambda part: part.write_text(text))
    return path


def read(folder: Path) -> dict[str, Provenance]:
    """The provenance of every figure and table in a folder, by name.

    Raises:
        ValueError: where two notebooks say that they made the same.
    """
    found: dict[str, Provenance] = {}
    for path in sorted(folder.glob(FILE.format(notebook="*"))):
        for name, one in json.loads(path.read_text()).items():
            if name in found:
                told = f"{path}: {name!r} is from {found[name].notebook} too, by another provenance file"
                raise ValueError(f"{told}; remove what is out of date")
            found[name] = Provenance(**one | {"runs": tuple(one["runs"])})
    return found
