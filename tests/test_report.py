import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lib import report


class Page(HTMLParser):
    """Counts tags, and collects what a page would load from elsewhere."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.loads = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        if tag in ("script", "img", "link", "iframe"):
            self.loads += [attributes.get("src") or attributes.get("href") or ""]


@pytest.fixture(scope="module")
def built(runs_folder, tmp_path_factory):
    folder, working_folder = tmp_path_factory.mktemp("figures"), Path.cwd()
    page = report.build(str(runs_folder), str(folder), idea_epochs=6)
    assert Path.cwd() == working_folder
    return page


def test_the_report_is_one_page_that_opens_offline_and_fits_a_phone(built):
    html = built.read_text()
    page = Page(html)
    assert all(source.startswith("data:") for source in page.loads)
    assert page.tags.count("img") == 4
    assert '<meta name="viewport" content="width=device-width' in html


def test_a_figure_tells_how_broad_it_is(tmp_path):
    for width, told in (("266.4pt", "--natural: 266.4pt"), ("1044pt", "--natural: 1044pt")):
        (tmp_path / "a.svg").write_text(
            f'<?xml version="1.0"?>\n<svg height="9pt" width="{width}" version="1.1"></svg>'
        )
        assert told in report.figure(tmp_path / "a.svg", "caption").data


def test_the_report_shows_no_code(built):
    html = built.read_text()
    assert "import " not in re.sub(r"base64,[^\"]*", "", html)
    assert "runs_folder" not in html


def test_the_report_is_filled_from_the_runs(built):
    html = built.read_text()
    assert "made from 4 runs on digits" in html
    assert "Results on digits" in html
    assert "symmetric 40%" in html
    assert "load_digits" in html


def test_tables_and_figures_are_left_beside_it(built):
    names = {path.name for path in built.parent.iterdir()}
    for stem in ("memorization_digits", "signals_digits", "gaps_digits", "idea"):
        assert {f"{stem}.svg", f"{stem}.png"} <= names
    assert {"criteria_digits.csv", "criteria_digits.tex", "report.html"} <= names


def test_a_broken_run_is_named_in_the_report(runs_folder, tmp_path):
    folder = shutil.copytree(runs_folder, tmp_path / "runs")
    broken = sorted(folder.iterdir())[0]
    (broken / "weights.pt").unlink()
    page = report.build(str(folder), str(tmp_path / "figures"), idea_epochs=6)
    assert f"<code>{broken.name}</code> (unfinished: no weights.pt)" in page.read_text()


def test_with_unfinished_runs_alone_it_says_what_to_run_first(runs_folder, tmp_path, capsys):
    run = shutil.copytree(sorted(runs_folder.iterdir())[0], tmp_path / "runs" / "one")
    (run / "weights.pt").unlink()
    assert report.main(["--runs", str(tmp_path / "runs"), "--figures", str(tmp_path / "figures")]) == 1
    assert "no finished runs" in capsys.readouterr().err
    assert not (tmp_path / "figures").exists()


def test_without_runs_it_says_what_to_run_first(tmp_path, capsys):
    assert report.main(["--runs", str(tmp_path), "--figures", str(tmp_path / "figures")]) == 1
    assert "run `make demo` or `make news` first" in capsys.readouterr().err
    assert not (tmp_path / "figures").exists()
