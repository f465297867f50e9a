"""How tables are written: CSV for machines, LaTeX for papers, HTML in the report; pandas does the setting."""

from html import escape
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from lib.paper.provenance import Provenance

_LONG = 40
"""Rows of a page, more or less."""
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{sign: f"\\{sign}" for sign in "%_&#${}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "<": "$<$",
        ">": "$>$",
        "τ": r"$\tau$",
        "–": "--",
        "×": r"$\times$",
    }
)
"""More than pandas escapes: every sign that texts of ours have, for any encoding of fonts."""


class Estimate(NamedTuple):
    """A cell of a table: a number, the ends of its interval where it has one, and whether it wins; all as texts."""

    mean: str
    low: str = ""
    high: str = ""
    best: bool = False

    @classmethod
    def of(cls, row: pd.Series, quantity: str, digits: int, best: bool = False) -> "Estimate | str":
        """What a row holds of a quantity: its mean, and its interval from `quantity_low` to `quantity_high`."""
        mean = row[f"{quantity}_mean"] if f"{quantity}_mean" in row else row[quantity]
        if pd.isna(mean):
            return "–"
        low, high = (plain(row[f"{quantity}_{end}"], digits) for end in ("low", "high"))
        return cls(plain(mean, digits), low, high, best)


Cell = Estimate | str


def plain(value: float, digits: int) -> str:
    """A number with so many digits after the point; three are for p-values. Empty for NaN."""
    if pd.isna(value):
        return ""
    if digits == 3 and value < 0.001:
        return "<0.001"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def html(printed: pd.DataFrame, classes: str = "") -> str:
    """A table as HTML; its classes say how many columns name its rows, which are set left."""
    cells = printed.map(_html_cell).rename(columns=_html_cell)
    return cells.to_html(index=False, border=0, escape=False, classes=f"labels-{_labels(printed)} {classes}".strip())


def _html_cell(cell: Cell) -> str:
    if not isinstance(cell, Estimate):
        return escape(cell)
    shown = f"<strong>{cell.mean}</strong>" if cell.best else cell.mean
    return f"{shown} <small>[{cell.low},&nbsp;{cell.high}]</small>" if cell.low else shown


def _latex_cell(cell: Cell) -> str:
    if not isinstance(cell, Estimate):
        return cell.translate(_SPECIAL)
    shown = rf"\mathbf{{{cell.mean}}}" if cell.best else cell.mean
    return f"${shown}_{{{cell.low}}}^{{{cell.high}}}$" if cell.low else f"${shown}$"


def _labels(printed: pd.DataFrame) -> int:
    """How many columns name a row: the second one too where the first groups rows."""
    return 2 if printed.columns[1] in ("Criterion", "Kept", "Value") else 1


def write(
    name: str, printed: pd.DataFrame, text: str, provenance: Provenance, folder: Path, data: pd.DataFrame | None = None
) -> list[Path]:
    """Write a table as LaTeX (booktabs, to `\\input`), and its numbers as CSV.

    Args:
        name: of the files, without suffix.
        printed: cells are texts or `Estimate`s; an empty first cell belongs to the group of rows above it.
        text: caption.
        provenance: kept as a comment.
        folder: where the files go.
        data: what the CSV holds; none where another table's holds it.

    Returns:
        The paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tex, csv = folder / f"{name}.tex", folder / f"{name}.csv"
    tex.write_text(_latex(name, printed, text, provenance))
    if data is None:
        return [tex]
    data.to_csv(csv, index=False, float_format="%.6g")
    return [tex, csv]


def _latex(name: str, printed: pd.DataFrame, text: str, provenance: Provenance) -> str:
    """A floating table, shrunk where it is too broad; one of more rows than a page holds breaks across pages."""
    left, long = _labels(printed), len(printed) > _LONG
    cells = printed.map(_latex_cell)
    # Headings of numbers are broken between their words, so that columns are as narrow as numbers are.
    headings = [_latex_cell(heading) for heading in printed.columns]
    broken = [r"\shortstack[r]{" + heading.replace(" ", r"\\") + "}" for heading in headings]
    cells.columns = headings[:left] + broken[left:]
    if left == 2:
        begins = [place > 0 and first != "" for place, first in enumerate(cells.iloc[:, 0])]
        cells.iloc[begins, 0] = "\\midrule\n" + cells.iloc[begins, 0]
    latex = cells.to_latex(
        index=False,
        escape=False,
        column_format="l" * left + "r" * (printed.shape[1] - left),
        caption=_latex_cell(text),
        label=f"tab:{name}",
        longtable=long,
        position=None if long else "t",
    )
    stretched = r"\renewcommand{\arraystretch}{1.35}"
    if long:
        # What is broader than the text reaches into both margins alike.
        sides = "".join(rf"\setlength{{\LT{side}}}{{0pt plus 1fill minus 1fill}}" for side in ("left", "right"))
        latex = f"{{\\tiny\\setlength{{\\tabcolsep}}{{2pt}}{sides}{stretched}\n{latex}}}\n"
    else:
        latex = latex.replace(r"\begin{tabular}", rf"\centering\footnotesize{stretched}{_FITTED}\begin{{tabular}}")
        latex = latex.replace(r"\end{tabular}", r"\end{tabular}}")
    return f"% {provenance.text()}\n% Needs \\usepackage{{booktabs,graphicx,longtable}}.\n{latex}"
