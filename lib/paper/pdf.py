"""The report as PDF: pandoc turns its HTML into Typst, notebooks/report.typ says how that looks."""

import re
from html import escape
from pathlib import Path

import pypandoc
import typst

from lib.files import write_whole
from lib.grid.tasks import NOTEBOOKS

_HELD = re.compile(' src="data:[^"]*"')


def write(body: str, pdf: Path, title: str, date: str) -> None:
    """Set the body of a report as PDF; the same body gives the same bytes on every machine.

    Args:
        body: HTML; its images are files beside the report (`data-file`, PDF, SVG or PNG), whatever it holds itself.
        pdf: the file to write; one that is there stays as it is until the new one is complete.
        title, date: of the document; a date is YYYY-MM-DD.

    Raises:
        RuntimeError: where it cannot be set; one line.
    """
    body = re.sub("<img [^>]*>", lambda image: _HELD.sub("", image[0]).replace("data-file", "src"), body)
    page = f'<html lang="en"><head><title>{escape(title)}</title></head><body>{body}</body></html>'
    look = NOTEBOOKS / "report"
    options = [f"--template={look}.typ", f"--lua-filter={look}.lua", f"--variable=day:{date}"]
    try:
        source = pypandoc.convert_text(page, "typst-smart", "html", extra_args=options)
        content = typst.compile(source.encode(), root=pdf.parent, format="pdf", ignore_system_fonts=True)
    except RuntimeError as error:
        reason = " ".join(getattr(error, "message", str(error)).split())
        raise RuntimeError(f"{pdf.name} could not be made: {reason}") from error
    write_whole(pdf, lambda part: part.write_bytes(content))
