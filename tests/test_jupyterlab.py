"""The explorer where it is used: in JupyterLab its notebook is run, a slider is moved, and the figure changes."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import sys
import time

import nbformat
import psutil
import pytest

from lib.grid.tasks import NOTEBOOKS
from tests.benchmarks.exploring import make

browser = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
SECONDS = 120  # far more than any step takes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is on the PATH"),
]


@contextlib.contextmanager
def jupyter_lab(folder):
    """JupyterLab on a folder, with settings of its own; gives its address and token. In the end no process is left."""
    places = ["JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"]
    places += ["JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR"]
    own = {name: str(folder.parent / name.lower()) for name in places}
    token = secrets.token_hex()
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ServerApp.allow_root=True"]
    command += [f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}", "--ServerApp.port=0"]
    log = folder.parent / "jupyter.log"
    with log.open("w") as output:
        server = psutil.Popen(command, env=os.environ | own, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + SECONDS
        while not (address := told_by(folder.parent / "jupyter_runtime_dir")):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"JupyterLab did not start: {log.read_text()}")
            time.sleep(0.05)
        yield address, token
    finally:
        processes = [server, *server.children(recursive=True)] if server.is_running() else []
        server.terminate()
        _, left = psutil.wait_procs(processes, timeout=20)
        for process in left:
            process.kill()
        psutil.wait_procs(left)


def told_by(folder):
    """The address that a server wrote to its runtime folder, None until it is there."""
    for file in folder.glob("jpserver-*.json"):
        with contextlib.suppress(ValueError):  # written just now
            return json.loads(file.read_text())["url"]
    return None


@contextlib.contextmanager
def chromium(folder):
    """A page of a browser that was never used before."""
    with browser.sync_playwright() as playwright:
        options = {"executable_path": CHROMIUM, "args": FLAGS, "viewport": {"width": 1440, "height": 900}}
        context = playwright.chromium.launch_persistent_context(folder / "chromium", **options)
        context.set_default_timeout(1000 * SECONDS)
        browser.expect.set_options(timeout=1000 * SECONDS)
        try:
            yield context.pages[0]
        finally:
            context.close()


def digest(image):
    """Of the file that is shown as an image."""
    content = image.evaluate("async image => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]")
    return hashlib.sha256(bytes(content)).hexdigest()


def test_a_slider_moves_the_figure_in_jupyterlab(tmp_path):
    make(tmp_path / "runs", 4, 30, 9)
    notebook = nbformat.read(NOTEBOOKS / "explorer.ipynb", as_version=4)
    notebook.cells[1].source = f"runs_folder = {str(tmp_path / 'runs')!r}"
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "explorer.ipynb")
    with jupyter_lab(tmp_path / "notebooks") as (address, token), chromium(tmp_path) as page:
        page.goto(f"{address}lab/tree/explorer.ipynb?token={token}")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        image, numbers = page.locator("img.widget-image"), page.locator(".widget-html-content", has_text="Mean gap")
        window = page.locator(".widget-slider", has_text="Window")
        image.wait_for()
        source, figure, told = image.get_attribute("src"), digest(image), numbers.inner_text()
        assert "4 of 4 runs stopped" in told
        browser.expect(window.locator(".widget-readout")).to_have_text("5")
        browser.expect(page.locator(".jp-RenderedHTMLCommon table")).to_contain_text("spent_epochs")

        window.get_by_role("slider").press("ArrowRight")
        browser.expect(window.locator(".widget-readout")).to_have_text("6")
        browser.expect(numbers).not_to_have_text(told)
        browser.expect(image).not_to_have_attribute("src", source)
        assert digest(image) != figure
