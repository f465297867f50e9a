"""From run folders to tables, figures and the report: the summary notebooks, executed in turn.

python -m lib.report --runs runs --figures figures
"""

import argparse
import re
import sys
import tempfile
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from IPython.display import HTML
from nbconvert import HTMLExporter
from tqdm import tqdm

from lib.execution import execute
from lib.grid import NOTEBOOKS
from lib.parameters import ROOT
from lib.run_folder import ARGS, unfinished

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def figure(path: Path, caption: str) -> HTML:
    """A figure for the report: the image held in the page itself, with its caption.

    Args:
        path: an SVG or PNG file.
        caption: plain text; it is the alternative text too.
    """
    kind = {".svg": "image/svg+xml", ".png": "image/png"}[path.suffix]
    content = path.read_bytes()
    data, text = b64encode(content).decode(), escape(caption)
    # On a phone a broad figure scrolls sideways; one that is narrow by nature must not be blown up to that.
    natural = re.search(rb'<svg[^>]* width="([\d.]+pt)"', content)
    style = f' style="--natural: {natural[1].decode()}"' if natural else ""
    return HTML(
        f'<figure><div class="wide"><img src="data:{kind};base64,{data}" alt="{text}"{style}></div>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def table(rows: pd.DataFrame, caption: str) -> HTML:
    """A table for the report, without its index; it scrolls sideways where the screen is narrow."""
    html = rows.to_html(index=False, border=0)
    return HTML(f'<figure><figcaption>{escape(caption)}</figcaption><div class="wide">{html}</div></figure>')


def convert(notebook: Path, page: Path) -> None:
    """Turn an executed notebook into one HTML file without code cells, which opens offline."""
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_input_prompt=True)
    exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    body, _ = exporter.from_notebook_node(nbformat.read(notebook, as_version=4))
    style = (NOTEBOOKS / "report.css").read_text()
    part = page.with_suffix(".part")
    part.write_text(_PAGE.format(title="Memorization under label noise", style=style, body=body))
    part.replace(page)


def build(runs: str, figures: str, idea_epochs: int = 60) -> Path:
    """Execute the summary notebooks on the runs that are there and write the report.

    Args:
        runs: folder of the run folders; relative paths start at the project root.
        figures: folder for tables, figures and `report.html`.
        idea_epochs: length of the training that the idea is shown on.

    Returns:
        Path of the report.

    Raises:
        FileNotFoundError: where there is no finished run; the message says what to run first.
        RuntimeError: where a notebook fails.
    """
    if all(unfinished(args.parent) for args in (ROOT / runs).glob(f"*/{ARGS}")):
        raise FileNotFoundError(f"no finished runs in {runs!r}: run `make demo` or `make news` first")
    folder = ROOT / figures
    idea = {"epochs": idea_epochs, "figures_folder": figures}
    summary = {"runs_folder": runs, "figures_folder": figures}
    with (
        tempfile.TemporaryDirectory() as scratch,
        ThreadPoolExecutor(2) as pool,
        tqdm(total=4, unit="notebook", desc="report") as bar,
    ):

        def step(name: str, parameters: dict[str, Any]) -> Path:
            executed = Path(scratch) / f"{name}.ipynb"
            failure = execute(NOTEBOOKS / executed.name, executed, parameters)
            if failure:
                raise RuntimeError(f"{executed.name} failed: {failure}")
            bar.update()
            return executed

        # The report shows what the others write.
        list(pool.map(step, ("idea", "summary_tables", "summary_figures"), (idea, summary, summary)))
        convert(step("report", summary), folder / "report.html")
    return folder / "report.html"


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, 1 where the report could not be made, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m lib.report", description="Rebuild tables, figures and report.")
    parser.add_argument("--runs", default="runs", help="folder of the run folders (default runs)")
    parser.add_argument("--figures", default="figures", help="folder to write to (default figures)")
    options = parser.parse_args(arguments)
    try:
        page = build(options.runs, options.figures)
    except (FileNotFoundError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the report that was there before is kept", file=sys.stderr)
        return 130
    print(f"The report is {page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
