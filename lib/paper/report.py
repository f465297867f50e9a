"""From run folders to tables, figures and the report: the summary notebooks, executed in turn."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lib.files import write_whole
from lib.grid.execution import executed
from lib.grid.tasks import NOTEBOOKS
from lib.paper import pdf
from lib.parameters import located
from lib.runs import logs
from lib.runs.folder import ARGS, unfinished

if TYPE_CHECKING:
    from nbformat import NotebookNode

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="date" content="{date}">
<meta name="keywords" content="label noise, memorization, early stopping, class-conditional neuron divergence">
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


def convert(notebook: "NotebookNode", page: Path) -> None:
    """Turn an executed notebook into one HTML file without code cells, which opens offline, and a PDF beside it."""
    from nbconvert import HTMLExporter  # here: after papermill it comes as light, see lib.grid.execution

    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_input_prompt=True)
    exporter.exclude_output_prompt = exporter.exclude_anchor_links = True
    body = _with_contents(exporter.from_notebook_node(notebook)[0])
    about = {"title": "Memorization under label noise", "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    text = _PAGE.format(**about, style=(NOTEBOOKS / "report.css").read_text(), body=body)
    write_whole(page, lambda part: part.write_text(text))
    pdf.write(body, page.with_suffix(".pdf"), **about)


def _with_contents(body: str) -> str:
    """The page with links to its sections before the first one."""
    head, *sections = body.split("<h2>")
    titles = [section.partition("</h2>")[0] for section in sections]
    links = "".join(f'<li><a href="#section-{i}">{title}</a></li>' for i, title in enumerate(titles))
    anchored = "".join(f'<h2 id="section-{i}">{section}' for i, section in enumerate(sections))
    return f'{head}<div class="contents"><nav><ul>{links}</ul></nav></div>\n{anchored}'


def build(runs: str, figures: str, idea_epochs: int = 60) -> Path:
    """Execute the summary notebooks on the runs that are there and write the report.

    Args:
        runs: folder of the run folders; relative paths start at the project root.
        figures: folder for tables, figures, `report.html` and `report.pdf`.
        idea_epochs: length of the training that the idea is shown on.

    Returns:
        Path of the report in HTML.

    Raises:
        FileNotFoundError: where there is no finished run; the message says what to run first.
        ParameterError: for a folder with an environment variable that is not set.
        RuntimeError: where a notebook fails.
    """
    root, folder = located("runs", runs), located("figures", figures)
    finished = (args.parent for args in root.glob(f"*/{ARGS}") if not unfinished(args.parent))
    if not any(finished) and not logs.read(root):
        raise FileNotFoundError(f"no finished runs in {runs!r}: run `make demo` or `make news` first")
    idea: dict[str, Any] = {"epochs": idea_epochs, "figures_folder": figures}
    summary: dict[str, Any] = {"runs_folder": runs, "figures_folder": figures}
    with ThreadPoolExecutor(2) as pool, tqdm(total=6, unit="step", desc="report") as bar:

        def step(name: str, parameters: dict[str, Any]) -> "NotebookNode":
            try:
                notebook = executed(NOTEBOOKS / f"{name}.ipynb", parameters)
            except RuntimeError as error:
                raise RuntimeError(f"{name}.ipynb failed: {error}") from error
            bar.update()
            return notebook

        # The report shows what the others write. Drawing takes longest, and comes first.
        others = {"summary_figures": summary, "summary_choices": summary, "summary_tables": summary, "idea": idea}
        list(pool.map(lambda name: step(name, others[name]), others))
        convert(step("report", summary), folder / "report.html")
        bar.update()
    return folder / "report.html"
