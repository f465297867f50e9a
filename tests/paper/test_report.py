import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pypdf
import pytest

from lib.__main__ import main
from lib.paper import provenance, report
from lib.paper.provenance import Provenance

pytestmark = pytest.mark.slow


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
def built(study_folder, tmp_path_factory):
    """The report of a study, with a broken run beside it, in a folder that holds figures of other runs."""
    folder, working_folder = tmp_path_factory.mktemp("figures"), Path.cwd()
    runs = shutil.copytree(study_folder, tmp_path_factory.mktemp("study") / "runs")
    broken = shutil.copytree(sorted(study_folder.iterdir())[0], runs / "broken")
    (broken / "weights.pt").unlink()
    gone = Provenance("notebooks/summary_figures.ipynb", "0123456789abcdef", ("run-1",), "digits")
    provenance.write({"high_rates_gone": gone}, "summary_figures", folder)
    (folder / "high_rates_gone.pdf").write_text("")
    page = report.build(str(runs), str(folder), idea_epochs=6)
    assert Path.cwd() == working_folder
    return page


def test_the_report_is_one_page_that_opens_offline_and_fits_a_phone(built):
    html = built.read_text()
    page = Page(html)
    assert all(source.startswith("data:") for source in page.loads)
    assert page.tags.count("img") >= 8
    assert '<meta name="viewport" content="width=device-width' in html


def test_the_report_shows_no_code(built):
    html = built.read_text()
    assert "import " not in re.sub(r"base64,[^\"]*", "", html)
    assert "runs_folder" not in html


def test_the_report_is_filled_from_the_runs(built):
    html = built.read_text()
    assert "4 runs in 2 settings" in html
    for said in ("symmetric 40%", "load_digits", "10% held out, noisy labels", "CND bins", "ranked by the gap to"):
        assert said in html


def test_the_report_says_what_is_missing(built):
    html = built.read_text()
    assert "No run has pair, instance and human noise." in html
    assert "slurm/cifar100.yaml" in html


def test_links_within_the_report_lead_somewhere(built):
    html = built.read_text()
    targets, links = re.findall(r' id="([^"]+)"', html), re.findall(r'href="#([^"]+)"', html)
    assert len(links) > 20
    assert set(links) <= set(targets)
    assert len(set(targets)) == len(targets)


def test_the_report_is_a_pdf_too(built):
    reader = pypdf.PdfReader(built.with_suffix(".pdf"))
    text = " ".join(page.extract_text() for page in reader.pages)
    assert reader.metadata.title == "Memorization under label noise"
    assert "Appendix D: provenance" in text
    assert "symmetric 40%" in text


def test_tables_and_figures_are_left_beside_it(built):
    names = {path.name for path in built.parent.iterdir()}
    figures = ("memorization_digits", "signals_digits_1", "gap_by_rate_digits", "high_rates_digits", "heat_maps_digits")
    for stem in (*figures, "layers_digits", "critical_difference", "idea", "densities"):
        assert {f"{stem}.svg", f"{stem}.pdf"} <= names
    for stem in ("criteria_digits", "ablation_digits", "baselines_digits", "overall"):
        assert {f"{stem}.csv", f"{stem}.tex"} <= names
    made = provenance.read(built.parent)
    assert {Path(name).stem for name in names if name.endswith((".svg", ".tex"))} == set(made)
    notebooks = {"idea", "summary_choices", "summary_figures", "summary_tables"}
    assert {name for name in names if name.endswith(".json")} == {f"provenance_{name}.json" for name in notebooks}
    assert {path.suffix for path in built.parent.iterdir()} == {".svg", ".pdf", ".csv", ".tex", ".json", ".html"}


def test_figures_of_other_runs_are_neither_shown_nor_lost(built):
    assert (built.parent / "high_rates_gone.pdf").exists()
    assert "high_rates_gone" not in provenance.read(built.parent)
    assert "high_rates_gone" not in built.read_text()


def test_a_broken_run_is_named_in_the_report(built):
    assert "<code>broken</code>: unfinished: no weights.pt" in built.read_text()


def test_with_unfinished_runs_alone_it_says_what_to_run_first(runs_folder, tmp_path, capsys):
    run = shutil.copytree(sorted(runs_folder.iterdir())[0], tmp_path / "runs" / "one")
    (run / "weights.pt").unlink()
    assert main(["report", "--runs", str(tmp_path / "runs"), "--figures", str(tmp_path / "figures")]) == 1
    assert "no finished runs" in capsys.readouterr().err
    assert not (tmp_path / "figures").exists()


def test_the_report_lies_beside_its_runs_and_the_paper_is_made_of_logs(monkeypatch):
    asked = []
    monkeypatch.setattr(report, "build", lambda runs, figures: asked.append((runs, figures)) or Path("report.html"))
    for command in (["report"], ["report", "--runs", "there"], ["report", "--figures", "here"], ["paper"]):
        assert main(command) == 0
    assert asked == [("runs", "runs/figures"), ("there", "there/figures"), ("runs", "here"), ("logs", "figures")]


def test_where_a_notebook_fails_nothing_is_removed(tmp_path, monkeypatch):
    old = Provenance("notebooks/n.ipynb", "c", (), "s")
    before = provenance.write({"old": old}, "summary_figures", tmp_path / "figures")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "args.json").touch()

    def executed(notebook, parameters):
        raise RuntimeError("enough")

    monkeypatch.setattr(report, "unfinished", lambda folder: None)
    monkeypatch.setattr(report, "executed", executed)
    with pytest.raises(RuntimeError, match=r"\w+\.ipynb failed: enough"):
        report.build(str(tmp_path), str(tmp_path / "figures"))
    assert before.exists()


def test_without_runs_it_says_what_to_run_first(tmp_path, capsys):
    assert main(["report", "--runs", str(tmp_path), "--figures", str(tmp_path / "figures")]) == 1
    assert "run `make demo` or `make news` first" in capsys.readouterr().err
    assert not (tmp_path / "figures").exists()
