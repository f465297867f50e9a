"""How tables are written: CSV for machines, LaTeX for papers, HTML for the report and the eye."""

from collections.abc import Callable
from html import escape
from pathlib import Path

import pandas as pd

from lib.paper.provenance import Provenance
from lib.parameters import ROOT

_SPECIAL = str.maketrans(
    {
        "%": r"\%",
        "_": r"\_",
        "&": r"\&",
        "#": r"\#",
        "$": r"\$",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "±": r"$\pm$",
        "<": "$<$",
        ">": "$>$",
        "τ": r"$\tau$",
        "–": "--",
        "×": r"$\times$",
    }
)
_FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_STYLE = ROOT / "notebooks" / "report.css"


class Html:
    """How a number with its interval is written in HTML."""

    @staticmethod
    def text(value: str) -> str:
        """Plain text, escaped."""
        return escape(value)

    @staticmethod
    def number(mean: str, ends: tuple[str, str] | None, winner: bool) -> str:
        """A number, its interval below it in small type, strong where it wins."""
        shown = f"<strong>{mean}</strong>" if winner else mean
        return f"{shown} <small>[{ends[0]}, {ends[1]}]</small>" if ends else shown


class Latex:
    """How a number with its interval is written in LaTeX."""

    @staticmethod
    def text(value: str) -> str:
        """Plain text, escaped."""
        return value.translate(_SPECIAL)

    @staticmethod
    def number(mean: str, ends: tuple[str, str] | None, winner: bool) -> str:
        """A number with the ends of its interval below and above it, bold where it wins."""
        shown = rf"\mathbf{{{mean}}}" if winner else mean
        return f"${shown}_{{{ends[0]}}}^{{{ends[1]}}}$" if ends else f"${shown}$"


Format = type[Html] | type[Latex]


def interval(row: pd.Series, quantity: str, digits: int, form: Format, winner: bool = False) -> str:
    """The mean in a column and the ends of its interval beside it."""
    mean = row[f"{quantity}_mean"] if f"{quantity}_mean" in row else row[quantity]
    if pd.isna(mean):
        return form.text("–")
    low, high = row[f"{quantity}_low"], row[f"{quantity}_high"]
    return form.number(plain(mean, digits), None if pd.isna(low) else (plain(low, digits), plain(high, digits)), winner)


def plain(value: float, digits: int) -> str:
    """A number with so many digits after the point; three are for p-values. Empty for NaN."""
    if pd.isna(value):
        return ""
    if digits == 3 and value < 0.001:
        return "<0.001"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def to_html(printed: pd.DataFrame, classes: str = "") -> str:
    """A table whose cells are HTML already; the columns that name its rows are set left."""
    return printed.to_html(index=False, border=0, escape=False, classes=f"labels-{_labels(printed)} {classes}".strip())


def _labels(printed: pd.DataFrame) -> int:
    """How many columns name a row: the second one too where the first groups rows."""
    return 2 if printed.columns[1] in ("Criterion", "Value") else 1


def html(printed: pd.DataFrame, text: str) -> str:
    """A table with its caption above it; the cells are HTML already."""
    table = to_html(printed)
    return f'<figure><figcaption>{escape(text)}</figcaption><div class="wide">{table}</div></figure>'


def read(page: Path) -> tuple[str, str]:
    """Caption and table, as HTML, of a page that `write` wrote."""
    _, _, rest = page.read_text().partition("<figcaption>")
    caption, _, rest = rest.partition('</figcaption><div class="wide">')
    return caption, rest.partition("</div></figure>")[0]


def write(
    name: str,
    data: pd.DataFrame,
    printed: Callable[[Format], pd.DataFrame],
    text: str,
    provenance: Provenance,
    folder: Path,
) -> list[Path]:
    """Write a table as CSV (all numbers), LaTeX (booktabs, to `\\input`) and HTML (one file).

    Args:
        name: of the files, without suffix.
        data: what the CSV holds.
        printed: gives the table as it is printed in a format.
        text: caption.
        provenance: kept as comment or metadata.
        folder: where the files go.

    Returns:
        The paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    csv, tex, page = (folder / f"{name}{suffix}" for suffix in (".csv", ".tex", ".html"))
    data.to_csv(csv, index=False, float_format="%.6g")
    tex.write_text(_latex(name, printed(Latex), text, provenance))
    head = f'<meta charset="utf-8">\n<meta name="provenance" content="{escape(provenance.text())}">'
    style = f"<title>{escape(name)}</title>\n<style>\n{_STYLE.read_text()}</style>"
    body = f"<body><main>{html(printed(Html), text)}</main></body>"
    page.write_text(f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n{style}\n</head>\n{body}\n</html>\n')
    return [csv, tex, page]


def _latex(name: str, printed: pd.DataFrame, text: str, provenance: Provenance) -> str:
    """A floating table, shrunk where it is too broad; one of more rows than a page holds breaks across pages."""
    long, left = len(printed) > 40, _labels(printed)
    columns = "l" * left + "r" * (printed.shape[1] - left)
    rows = [" & ".join(row) + r" \\" for row in printed.itertuples(index=False)]
    begins = [left == 2 and i > 0 and first != "" for i, first in enumerate(printed.iloc[:, 0])]
    body = "\n".join(f"\\midrule\n{row}" if begin else row for begin, row in zip(begins, rows, strict=True))
    head = " & ".join(printed.columns) + r" \\"
    about = f"% {provenance.text()}\n% Needs \\usepackage{{booktabs,graphicx,longtable}}.\n"
    told = rf"\caption{{{Latex.text(text)}}}\label{{tab:{name}}}"
    if not long:
        return (
            f"{about}\\begin{{table}}[t]\n\\centering\\footnotesize\\renewcommand{{\\arraystretch}}{{1.35}}\n{told}\n{_FITTED}\n\\begin{{tabular}}{{{columns}}}\n"
            f"\\toprule\n{head}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}}}\n\\end{{table}}\n"
        )
    return (
        f"{about}{{\\tiny\\setlength{{\\tabcolsep}}{{2pt}}\\renewcommand{{\\arraystretch}}{{1.35}}\n\\begin{{longtable}}{{{columns}}}\n{told}\\\\\n"
        f"\\toprule\n{head}\n\\midrule\n\\endfirsthead\n\\toprule\n{head}\n\\midrule\n\\endhead\n\\bottomrule\n\\endfoot\n"
        f"{body}\n\\end{{longtable}}}}\n"
    )
