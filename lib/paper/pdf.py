"""The report as PDF: its HTML, translated to Typst code that the functions of notebooks/report.typ lay out.

Every text becomes a string literal, so nothing in a report can be taken for markup. Elements that are not listed here
give way to their content.
"""

import json
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote
from urllib.request import urlopen

import typst
from bs4 import BeautifulSoup, NavigableString, PageElement, Tag
from bs4.element import PreformattedString

from lib.grid.tasks import NOTEBOOKS

_TEMPLATE = "report.typ"
_SIMPLE = re.compile("b|blockquote|dd|del|dt|em|i|p|s|small|strong|sub|summary|sup|u")
"""Elements that are all content; the template has a function of the same name for each."""
_UNSEEN = {"head", "script", "style", "template"}
_IMAGES = {"image/svg+xml": "svg", "image/png": "png"}
_NUMBER = re.compile(r"(?=.*\d)(?:[\W\d]|(?<=\d)e(?=[+-]?\d))+[a-z]{0,3}", re.DOTALL)
"""Numbers with signs, intervals and short units; letters make a word of a cell."""
_BREAK = re.compile(r"[/_=.,:@+-](?=\w)|[^\W_]{12}(?=[^\W_]{6})")
_WIDEST_NUMBER = 40
_TALLEST_GROUP = 15


def write(html: Path, pdf: Path) -> None:
    """Set a report as PDF; the same HTML gives the same bytes on every machine.

    Title, authors, date (YYYY-MM-DD) and keywords are those of `<title>` and `<meta name="author">` (one each), `date`
    and `keywords` (with commas between them). The first `<h1>` is the title printed. Class "screen" is left out.

    Args:
        html: the report in one file; its images are data URIs, SVG or PNG.
        pdf: the file to write; one that is there stays as it is until the new one is complete.

    Raises:
        RuntimeError: where the page cannot be set; one line.
    """
    try:
        soup = BeautifulSoup(html.read_text(encoding="utf-8"), "html.parser")
        page = _Page(soup)
        body = page.content(soup.body or soup)
        start = f'#import "{_TEMPLATE}": *\n#show: report.with({_head(soup)})\n'
        jump = f"#let jump = jump.with({_array(map(_literal, page.anchors))})\n"
        content = _compiled(f"{start}{jump}#{{\n{body}}}\n", page.images)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(getattr(error, "message", str(error)).split())
        raise RuntimeError(f"{pdf.name} could not be made from {html.name}: {reason}") from error
    part = pdf.with_name(f"{pdf.name}.part")
    try:
        part.write_bytes(content)
        part.replace(pdf)
    finally:
        part.unlink(missing_ok=True)


def _compiled(code: str, images: dict[str, bytes]) -> bytes:
    # The compiler takes sources from memory too, but no PNG among them.
    with tempfile.TemporaryDirectory() as folder:
        template = (NOTEBOOKS / _TEMPLATE).read_bytes()
        for name, content in {"main.typ": code.encode(), _TEMPLATE: template, **images}.items():
            Path(folder, name).write_bytes(content)
        return typst.compile(Path(folder, "main.typ"), root=folder, format="pdf", ignore_system_fonts=True)


def _head(soup: BeautifulSoup) -> str:
    """The arguments of `report` in the template: what the page says of itself."""

    def told(name: str) -> list[str]:
        return [tag["content"].strip() for tag in soup.select(f"meta[name={name}][content]")]

    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    keywords = [word.strip() for line in told("keywords") for word in line.split(",") if word.strip()]
    date = re.match(r"(\d{4})-(\d\d)-(\d\d)", "".join(told("date")[:1]))
    day = "datetime(year: {}, month: {}, day: {})".format(*map(int, date.groups())) if date else "none"
    authors, keywords = (_array(map(_literal, items)) for items in (told("author"), keywords))
    return f"title: {_literal(title)}, authors: {authors}, keywords: {keywords}, date: {day}"


def _literal(text: str) -> str:
    """A string of Typst; it is one of JSON once there are no control characters."""
    return json.dumps(re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", text), ensure_ascii=False)


def _array(items: Iterable[str]) -> str:
    return f"({''.join(f'{item}, ' for item in items)})"


def _pieces(text: str) -> list[str]:
    """A text, cut where long words such as paths and digests may break."""
    return re.sub(r"\S{18,}", lambda word: _BREAK.sub("\\g<0>\0", word[0]), text).split("\0")


def _string(text: str, function: str = "") -> str:
    return "may-break();\n".join(f"{function}({_literal(piece)});\n" for piece in _pieces(text))


def _prose(text: str) -> str:
    """Code for a text that is not verbatim: white space collapsed, quotes curled by Typst."""
    marks = {" ": "[ ];\n", "'": "smartquote(double: false);\n", '"': "smartquote();\n"}
    parts = re.split(r"""(^ | $|['"])""", re.sub(r"[ \t\r\n\f]+", " ", text))
    return "".join(marks.get(part) or _string(part) for part in parts if part)


def _verbatim(text: str) -> str:
    return "linebreak();\n".join(_string(line, "raw") for line in text.expandtabs().split("\n"))


class _Cell(NamedTuple):
    """A cell of a table: column and row of its upper left corner, columns and rows that it covers."""

    x: int
    y: int
    width: int
    height: int
    tag: Tag

    @property
    def text(self) -> str:
        return " ".join(self.tag.get_text(" ").split())


def _cells(rows: list[Tag], head: int) -> list[_Cell]:
    """Where the cells of a table lie, row by row; the first `head` rows are its header."""
    cells, taken = [], set()
    for y, row in enumerate(rows):
        x = 0
        for tag in row.find_all(["td", "th"], recursive=False):
            while (x, y) in taken:
                x += 1
            width, height = (max(1, int(tag.get(name) or 1)) for name in ("colspan", "rowspan"))
            height = min(height, (head if y < head else len(rows)) - y)
            taken |= {(x + i, y + j) for i in range(width) for j in range(height)}
            cells.append(_Cell(x, y, width, height, tag))
    return cells


def _grouped(cells: list[_Cell], head: int) -> tuple[list[_Cell], list[int]]:
    """Let the first cell of a group of rows cover the empty ones below it, so that no page ends within the group.

    Returns:
        The cells, and the rows where groups begin, where there are any.
    """
    start_of: dict[int, int] = {}
    heights: dict[int, int] = {}
    for cell in cells:
        if cell.x == 0 and cell.y >= head:
            if not heights or cell.text or cell.width > 1 or cell.tag.find("img"):
                start = cell.y
            start_of[cell.y] = start
            heights[start] = heights.get(start, 0) + cell.height
    if all(height == 1 for height in heights.values()):
        return cells, []
    merged = []
    for cell in cells:
        start = start_of.get(cell.y) if cell.x == 0 else None
        if start is None or heights[start] > _TALLEST_GROUP:
            merged.append(cell)
        elif start == cell.y:
            merged.append(cell._replace(height=heights[start]))
    return merged, list(heights)


class _Page:
    """One pass over a page.

    Attributes:
        images: the content of each image by the name that the code calls it.
        anchors: the ids that the code gives a place.
    """

    def __init__(self, soup: BeautifulSoup):
        self.images: dict[str, bytes] = {}
        self.anchors: list[str] = []
        self._title_is_due = True
        for line in soup.find_all("p", class_="provenance"):
            figure = line.find_previous("figure")
            # A page must not end between a figure and where it is from.
            if figure and figure.figcaption:
                figure.figcaption.append(" ")
                figure.figcaption.extend(list(line.extract().contents))
        for small in soup.select("td small, th small"):
            before = [node for node in small.previous_siblings if isinstance(node, Tag) or node.strip()]
            if before and before[0].name != "br":
                small.insert_before(soup.new_tag("br"))

    def content(self, parent: Tag, text: Callable[[str], str] = _prose) -> str:
        """Code for what is in an element, a statement a line."""
        return self._anchor(parent) + "".join(self._node(child, text) for child in parent.children)

    def _anchor(self, tag: Tag) -> str:
        name = tag.get("id")
        # Typst refuses a name that is given twice.
        if not name or name in self.anchors:
            return ""
        self.anchors.append(name)
        return f"anchor({_literal(name)});\n"

    def _node(self, node: PageElement, text: Callable[[str], str]) -> str:
        on_screen_only = isinstance(node, Tag) and "screen" in node.get("class", ())
        if isinstance(node, PreformattedString) or node.name in _UNSEEN or on_screen_only:
            return ""
        if isinstance(node, NavigableString):
            return text(node)
        match node.name:
            case name if _SIMPLE.fullmatch(name):
                return f"{name}({{\n{self.content(node, text)}}});\n"
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":
                return self._heading(node)
            case "a":
                return self._link(node, text)
            case "code" | "kbd" | "samp" | "pre":
                content = self.content(node, _verbatim)
                return f"pre({{\n{content}}});\n" if node.name == "pre" else content
            case "br" | "hr":
                return f"{self._anchor(node)}{node.name}();\n"
            case "ul" | "ol":
                return self._list(node)
            case "img":
                return self._image(node)
            case "figure":
                return self._figure(node)
            case "table":
                return self._table(node)
            case _:
                return self.content(node, text)

    def _heading(self, tag: Tag) -> str:
        content = f"{{\n{self.content(tag)}}}"
        if tag.name == "h1" and self._title_is_due:
            self._title_is_due = False
            return f"headline({content});\n"
        return f"heading(level: {max(1, int(tag.name[1]) - 1)}, {content});\n"

    def _link(self, tag: Tag, text: Callable[[str], str]) -> str:
        content, to = self.content(tag, text), tag.get("href", "")
        if not to.strip("#"):
            return content
        target = f"jump({_literal(unquote(to[1:]))}" if to.startswith("#") else f"link({_literal(to)}"
        return f"{target}, {{\n{content}}});\n"

    def _list(self, tag: Tag) -> str:
        items = "".join(f"{{\n{self.content(item)}}}, " for item in tag.find_all("li", recursive=False))
        function = "list(" if tag.name == "ul" else f"enum(start: {int(tag.get('start', 1))}, "
        return f"{self._anchor(tag)}{function}{items});\n"

    def _image(self, tag: Tag) -> str:
        source = tag.get("src", "")
        if not source.startswith("data:"):
            raise ValueError(f"the image {source!r} is not held in the page")
        with urlopen(source) as data:
            kind = data.headers.get_content_type()
            name = f"{len(self.images)}.{_IMAGES.get(kind)}"
            self.images[name] = data.read()
        if kind not in _IMAGES:
            raise ValueError(f"an image is {kind}, not one of {', '.join(_IMAGES)}")
        return f"{self._anchor(tag)}picture({_literal(name)}, {_literal(tag.get('alt', ''))});\n"

    def _figure(self, tag: Tag) -> str:
        caption = tag.find("figcaption", recursive=False)
        if caption is None:
            return self.content(tag)
        above = json.dumps(tag.find(True, recursive=False) is caption)
        told = self._anchor(tag) + self.content(caption.extract())
        return f"captioned({above}, {{\n{told}}}, {{\n{self.content(tag)}}});\n"

    def _table(self, tag: Tag) -> str:
        rows = [row for row in tag.find_all("tr") if row.find_parent("table") is tag]
        head = next((y for y, row in enumerate(rows) if row.parent.name != "thead" and row.find("td")), len(rows))
        cells = _cells(rows, head)
        numbers = []
        for x in range(max((cell.x + cell.width for cell in cells), default=0)):
            texts = [cell.text for cell in cells if cell.x == x and cell.y >= head and cell.width == 1 and cell.text]
            numbers.append(2 * len([text for text in texts if _NUMBER.fullmatch(text)]) > len(texts))
        cells, groups = _grouped(cells, head)
        code = []
        for cell in cells:
            # What may not be narrower than it is: a number as a whole, of other texts the longest word.
            whole = cell.y >= head and numbers[cell.x] and len(cell.text) <= _WIDEST_NUMBER
            word = max((piece for word in cell.text.split() for piece in _pieces(word)), key=len, default="")
            least = "none" if whole else f"{'raw' if cell.tag.code else 'strong'}({_literal(word)})"
            place = f"x: {cell.x}, y: {cell.y}, colspan: {cell.width}, rowspan: {cell.height}"
            place += f", breakable: {json.dumps(cell.height > _TALLEST_GROUP)}"
            code.append(
                f"({least}, table.cell({place}, {{\n{self._anchor(cell.tag.parent)}{self.content(cell.tag)}}}))"
            )
        sides = _array("right" if number else "left" for number in numbers)
        table = f"tabular({sides}, {head}, {_array(map(str, groups))}, {_array(code)});\n" if cells else ""
        anchor = self._anchor(tag)
        if tag.caption:
            return f"captioned(true, {{\n{anchor}{self.content(tag.caption)}}}, {{\n{table}}});\n"
        return anchor + table
