"""What the report shows: numbered figures and tables with captions, each with a link to where it is from."""

import os
import re
from base64 import b64encode
from html import escape
from pathlib import Path

import pandas as pd
from IPython.display import HTML

from lib.paper import printing, provenance
from lib.paper.provenance import Provenance
from lib.parameters import ROOT


class Page:
    """Figures and tables of one report, counted as they are shown.

    Args:
        folder: where the summary notebooks wrote figures, tables and their provenance.
        own: provenance of the tables that the report itself makes.
    """

    def __init__(self, folder: Path, own: Provenance):
        self._folder, self._own = folder, own
        self._made = provenance.read(folder)
        self._shown: dict[str, Provenance] = {}
        self._figures = self._tables = 0

    def made(self, name: str) -> bool:
        """Whether a notebook made a figure or table of this name."""
        return name in self._made

    def figure(self, name: str, caption: str) -> HTML:
        """A figure that a notebook made, held in the page itself.

        Args:
            name: of the file, without suffix.
            caption: plain text; it is the alternative text too.
        """
        self._figures += 1
        content = (self._folder / f"{name}.svg").read_bytes()
        data, text = b64encode(content).decode(), escape(caption)
        # On a phone a broad figure scrolls sideways; one that is narrow by nature must not be blown up to that.
        natural = re.search(rb'<svg[^>]* width="([\d.]+pt)"', content)
        style = f' style="--natural: {natural[1].decode()}"' if natural else ""
        image = f'<img src="data:image/svg+xml;base64,{data}" data-file="{name}.pdf" alt="{text}"{style}>'
        told = f"<figcaption><strong>Figure {self._figures}.</strong> {text} {self._link(name)}</figcaption>"
        return HTML(f'<figure><div class="wide">{image}</div>{told}</figure>')

    def data(self, name: str) -> pd.DataFrame:
        """The numbers of a table that a notebook made."""
        return pd.read_csv(self._folder / f"{name}.csv", keep_default_na=False, na_values=[""])

    def words(self, name: str, table: pd.DataFrame, caption: str) -> HTML:
        """A table of plain values that the report alone shows, set left, its lines broken where they are long.

        Args:
            name: by which the list of provenances calls it.
            table: whose values are shown as texts.
            caption: plain text.
        """
        self._made[name] = self._own
        return self.table(name, table.map(str).rename(columns=str), caption, "words")

    def table(self, name: str, printed: pd.DataFrame, caption: str, classes: str = "") -> HTML:
        """A table that a notebook made, with its caption above it; it scrolls sideways where the screen is narrow.

        Args:
            name: of its files, without suffix.
            printed: as `lib.paper.printing.html` takes it.
            caption: plain text.
            classes: of the table in HTML.
        """
        self._tables += 1
        told = f"<strong>Table {self._tables}.</strong> {escape(caption)} {self._link(name)}"
        table = printing.html(printed, classes)
        return HTML(f'<figure><figcaption>{told}</figcaption><div class="wide">{table}</div></figure>')

    def _link(self, name: str) -> str:
        self._shown[name] = self._made[name]
        return f'<a href="#made-{name}">Provenance</a>.'

    def provenance(self) -> HTML:
        """Where every figure and table shown so far is from: notebook, commit, runs by name, and data."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for name, one in self._shown.items():
            groups.setdefault(one.runs, []).append(name)
        parts = []
        for runs, names in groups.items():
            items = "".join(self._item(name) for name in names)
            source = escape(self._shown[names[0]].source)
            listed = " ".join(f"<code>{escape(run)}</code>" for run in runs)
            count = f"Runs: {len(runs)}. " if runs else ""
            # On paper a thousand names would be twenty pages.
            folded = f"<details><summary>Their names</summary><p>{listed}</p></details>" if runs else ""
            parts.append(f'<p>{count}Data: {source}.</p><div class="screen">{folded}</div><ul>{items}</ul>')
        return HTML("".join(parts))

    def _item(self, name: str) -> str:
        made = self._shown[name]
        link = Path(os.path.relpath(ROOT / made.notebook, self._folder)).as_posix()
        return (
            f'<li id="made-{name}"><code>{escape(name)}</code>: '
            f'<a href="{link}">{escape(made.notebook)}</a>, commit <code>{made.commit[:12]}</code></li>'
        )
