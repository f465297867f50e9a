import pytest
from PIL import Image
from pypdf import PdfReader

from lib.paper import pdf

pytestmark = pytest.mark.slow

A4 = (595.3, 841.9)
SIGNS = "± – × ≤ ≥ − · → ∞ τ ρ σ α Δ ∈ ½ é"
LITERAL = "#hash $dollar$ *star* _under_ `tick` \\back // comment /* c */ @ref <label> [bracket]"
DIGEST = "0123456789abcdef" * 4


def svg(width=266, height=100):
    box = f'width="{width}pt" height="{height}pt" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}><rect width="{width}" height="{height}"/></svg>'


def cells(values, tag="td"):
    return "<tr>" + "".join(f"<{tag}>{value}</{tag}>" for value in values) + "</tr>"


def table(head, rows, kind="labels-1"):
    body = "".join(cells(row) for row in rows)
    return f'<table class="dataframe {kind}"><thead>{cells(head, "th")}</thead><tbody>{body}</tbody></table>'


REPORT = f"""<div class="cell"><h1>A <em>title</em></h1><p>It's "quoted": {SIGNS}</p>
<p>{LITERAL.replace("<", "&lt;").replace(">", "&gt;")}</p><!-- a remark --><script>unseen()</script>
<div class="contents"><nav><ul><li>unseen</li></ul></nav></div><div class="screen"><details>unseen</details></div>
<p>H<sub>2</sub>O, 10<sup>9</sup>, <del>gone</del><br>next, <code>lib.paper.report  --runs</code> and {DIGEST}.</p>
<p>See <a href="#second">the second part</a>, <a href="#row">a row</a> and
<a href="https://example.org/?a=1&amp;b=2">a <strong>site</strong></a>.</p>
<h2 id="first">First part</h2>
<ol start="3"><li>third</li><li><p>fourth</p><ul><li id="row">nested</li></ul></li></ol>
<pre><code>for i in x:
    print(i)
</code></pre>
<figure><div class="wide"><img alt="Drawing" src="drawn.svg"></div><figcaption>Drawn caption.</figcaption></figure>
<figure><div class="wide"><img alt="Drawing" data-file="own.pdf" src="data:image/svg+xml;base64,AAAA" style="a"></div>
<figcaption>From a file.</figcaption></figure>
<p>Loose <img src="loose.png" alt=""> image</p>
<figure><figcaption><strong>Table 1.</strong> Its <a href="#first">caption</a>.</figcaption><div class="wide">
{table(["Noise", "A"], [["pair", "<strong>1.0</strong> <small>[0.5,&nbsp;1.5]</small>"]])}</div></figure>
<h2 id="second">Appendix</h2><p>The end.</p></div>"""


def made(folder, body):
    pdf.write(body, folder / "report.pdf", "A report", "2026-03-01")
    return PdfReader(folder / "report.pdf")


def texts(reader):
    return [page.extract_text() for page in reader.pages]


def words(page):
    """Every text of a page with where it starts and how large it is set: (text, x, y, size), in points."""
    found = []

    def visit(text, outer, matrix, _font, size):
        if text.strip():
            x, y = matrix[4] * outer[0] + outer[4], matrix[5] * outer[3] + outer[5]
            found.append((text.strip(), x, y, size * abs(matrix[0] * outer[0])))

    page.extract_text(visitor_text=visit)
    return found


def drawn(page):
    """Left, lower, right and upper end of all paths of a page in points."""
    points = []

    def visit(operator, operands, matrix, _):
        if operator in (b"m", b"l"):
            x, y = (float(operand) for operand in operands)
            points.append((matrix[0] * x + matrix[2] * y + matrix[4], matrix[1] * x + matrix[3] * y + matrix[5]))

    page.extract_text(visitor_operand_before=visit)
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def links(reader):
    """Where every link leads: a URI, or page number and height in points."""
    found = []
    for page in reader.pages:
        for reference in page.get("/Annots", []):
            link = reference.get_object()
            if "/Dest" in link:
                place = link["/Dest"]
                if isinstance(place, str):
                    place = reader.named_destinations[place].dest_array
                found.append((reader.get_page_number(place[0].get_object()), float(place[3])))
            else:
                found.append(str(link["/A"]["/URI"]))
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    made(folder, "<p>Text of the file</p>")
    (folder / "report.pdf").rename(folder / "own.pdf")
    (folder / "drawn.svg").write_text(svg())
    Image.new("RGB", (40, 20), "red").save(folder / "loose.png")
    return made(folder, REPORT)


def test_nothing_of_the_page_is_lost(report):
    text = " ".join(" ".join(texts(report)).split())
    parts = ["A title", "It’s “quoted”", SIGNS, LITERAL, "gone", "lib.paper.report --runs", "3. third", "4. fourth"]
    parts += ["nested", "for i in x:", "print(i)", "Drawn caption.", "Text of the file", "From a file.", "Loose"]
    parts += ["image", "Table 1. Its caption.", "1.0 [0.5, 1.5]", "The end."]
    assert [part for part in parts if part not in text] == []
    assert "remark" not in text
    assert "unseen" not in text
    assert text.endswith(f"{len(report.pages)} / {len(report.pages)}")


def test_it_tells_what_it_is(report):
    about = report.metadata
    assert (about.title, about["/CreationDate"][:10]) == ("A report", "D:20260301")
    assert [entry["/Title"] for entry in report.outline[1]] == ["First part", "Appendix"]
    assert report.root_object["/Lang"] == "en"
    contents = texts(report)[0].split("A title")[1]
    assert "First part" in contents
    assert "Appendix" in contents


def test_links_lead_to_sites_and_to_what_is_there(report):
    sites, places = (
        [*dict.fromkeys(target for target in links(report) if type(target) is kind)] for kind in (str, tuple)
    )
    assert sites == ["https://example.org/?a=1&b=2"]
    for told in ("nested", "First part", "Appendix"):
        heights = [(n, y) for n, page in enumerate(report.pages) for text, _, y, _ in words(page) if told in text]
        assert any(n == number and 0 <= place - y < 30 for n, y in heights for number, place in places)


def test_fonts_are_inside_and_from_the_compiler(report):
    fonts = [font.get_object() for page in report.pages for font in page["/Resources"]["/Font"].values()]
    names = {font["/BaseFont"].split("+")[1].split("-")[0] for font in fonts}
    assert names <= {"LibertinusSerif", "NewCM10", "NewCMMath", "DejaVuSansMono"}


def test_the_same_page_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made(tmp_path / name, "<h1>Title</h1><h2>Part</h2>" + table(["Noise", "A"], [["pair", "1.0"]]))
    assert (tmp_path / "a" / "report.pdf").read_bytes() == (tmp_path / "b" / "report.pdf").read_bytes()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('<img src="missing.svg">', "file not found"),
        ('<img data-file="report.pdf" src="data:image/svg+xml;base64,AAAA">', "PDF"),
        ('<a href="#nowhere">nowhere</a>', "nowhere"),
    ],
)
def test_what_cannot_be_set_is_told_in_a_line_and_leaves_what_was_there(tmp_path, body, told):
    (tmp_path / "report.pdf").write_text("old")
    with pytest.raises(RuntimeError, match=r"report\.pdf could not be made: ") as failure:
        made(tmp_path, body)
    assert told in str(failure.value)
    assert "\n" not in str(failure.value)
    assert (tmp_path / "report.pdf").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"report.pdf"}


@pytest.mark.parametrize("columns", [3, 9, 14, 30])
def test_a_table_stays_on_its_page_and_its_numbers_whole(tmp_path, columns):
    head = [f"Test accuracy {column} (%)" for column in range(columns)]
    rows = [[f"9{column}.{row} ± 1.{row}" for column in range(columns)] for row in range(4)]
    reader = made(tmp_path, (table(["Noise", *head], [["symmetric 40%", *row] for row in rows])))
    found = words(reader.pages[0])
    assert all(word in " ".join(text for text, *_ in found) for row in rows for word in row)
    for text, x, _, size in found:
        assert 0 < x < x + 0.4 * size * len(text.splitlines()[-1]) < A4[0]
    if columns <= 9:
        assert min(size for text, _, _, size in found if "±" in text) >= 6.99


def test_long_words_in_a_table_break_within_their_column(tmp_path):
    path = "runs/digits-noise_symmetric-noise_rate_0.4-seed_0/performances.csv"
    row = [DIGEST, path, f"<em>{path}</em>", "many plain words " * 9]
    reader = made(tmp_path, (table(["Digest", "Run", "File", "About"], [row], "labels-1 words")))
    starts = {text.split()[0]: x for text, x, *_ in words(reader.pages[0])}
    text = reader.pages[0].extract_text()
    assert DIGEST not in text
    assert path not in text
    joined = "".join(text.split())
    assert DIGEST in joined
    assert joined.count(path) == 2
    assert starts["Digest"] < starts["Run"] < starts["File"] < starts["About"] < A4[0]


def test_a_long_table_repeats_its_header_and_keeps_its_caption(tmp_path):
    rows = [[f"row {row}", str(row)] for row in range(120)]
    figure = f"<figure><figcaption>The caption</figcaption>{table(['Name', 'Value'], rows)}</figure>"
    reader = made(tmp_path, "<p>before</p>" * 40 + figure)
    pages = [text for text in texts(reader) if "row " in text]
    assert len(pages) >= 3
    assert all(text.count("Name Value") == 1 for text in pages)
    assert "The caption" in pages[0]
    assert [int(line.split()[1]) for text in pages for line in text.splitlines() if "row " in line] == [*range(120)]


def test_no_page_ends_within_a_group_of_rows(tmp_path):
    rows = [[f"noise {row // 7}" if row % 7 == 0 else "", f"criterion {row % 7}", str(row)] for row in range(140)]
    reader = made(tmp_path, (table(["Noise", "Criterion", "Value"], rows)))
    assert len(reader.pages) > 2
    for text in texts(reader):
        assert text.count("noise ") == text.count("criterion 0") == text.count("criterion 6")


@pytest.mark.parametrize(("width", "height"), [(100, 50), (500, 300), (1044, 245), (400, 2000)])
def test_a_figure_fits_its_page_with_its_caption(tmp_path, width, height):
    (tmp_path / "a.svg").write_text(svg(width, height))
    figure = '<figure><img src="a.svg" alt="A"><figcaption>Its caption</figcaption></figure>'
    reader = made(tmp_path, "<p>line</p>" * 30 + figure)
    number = next(i for i, text in enumerate(texts(reader)) if "Its caption" in text)
    (y,) = [y for text, _, y, _ in words(reader.pages[number]) if "Its caption" in text]
    assert 60 < y < A4[1]
    left, low, right, high = drawn(reader.pages[number])
    assert 0 < left < right < A4[0]
    assert 0 < y < low < high < A4[1]
    assert (right - left) / (high - low) == pytest.approx(width / height, rel=0.01)
