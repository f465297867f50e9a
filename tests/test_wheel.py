"""What others install: a package of its own name that needs torch and NumPy alone, in which the README's lines run."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lib.parameters import ROOT

pytestmark = pytest.mark.slow

BEFORE = """
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x_train, y_train = torch.randn(640, 8), torch.randint(10, (640,))
dataset = TensorDataset(x_train, y_train)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)


def train_step(model, x, labels):
    optimizer.zero_grad()
    loss = cross_entropy(model(x), labels)
    loss.backward()
    optimizer.step()
    return loss


"""
AFTER = """
assert stopper.stop and stopper.record == stopper.epoch - 10
assert bits.shape == (16,)
missing = {"numba", "scipy", "pandas", "lib"}
import sys
assert not missing & set(sys.modules), sys.modules.keys() & missing
for trainer in ("lightning", "huggingface", "skorch", "ignite", "keras"):
    try:
        __import__(f"label_memorization.loops.{trainer}")
    except ModuleNotFoundError as error:
        print(error)
"""


def needed(name, known):
    """The distribution of that name and what it needs here."""
    if name in known:
        return
    try:
        known[name] = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:  # for another platform
        return
    for requirement in known[name].requires or ():
        if "extra ==" not in requirement:
            needed(re.match(r"[\w.-]+", requirement)[0].lower(), known)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of packages: the wheel, torch, NumPy, and what these need."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", ".", "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = source.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    known: dict = {}
    for name in ("torch", "numpy"):
        needed(name, known)
    for distribution in known.values():
        for file in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / file).exists():
                (site / file).symlink_to(Path(distribution.locate_file(file)))
    return site


def python(site, code):
    """What Python tells that knows nothing but its standard library and the folder."""
    code = (
        f"import sys\nsys.path = [part for part in sys.path if 'site-packages' not in part] + [{str(site)!r}]\n{code}"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_lines_of_the_readme_run_where_nothing_else_is_installed(site):
    section = (ROOT / "README.md").read_text().split("## In your own training")[1].split("\n## ")[0]
    lines = re.findall(r"```python\n(.*?)```", section, re.S)
    assert len([line for line in lines[0].splitlines() if line]) == 10
    told = python(site, BEFORE + lines[0] + lines[1] + AFTER)
    assert "'cnd': " in told
    for package, extra in (("lightning", "lightning"), ("transformers", "huggingface"), ("ignite", "ignite")):
        assert f"{package} is missing: pip install 'memorization-under-label-noise[{extra}]'" in told


def test_all_that_is_installed_can_be_imported(site):
    modules = sorted(path.stem for path in (site / "label_memorization").glob("*.py"))
    for_graphs = {"entropy", "graphs"}
    assert {"cnd", "layers", "stopping"} < set(modules)
    assert not {"parameters", "catalogue", "models", "__main__"} & set(modules)
    names = [f"label_memorization.{name}" for name in modules if name not in for_graphs]
    python(site, f"import importlib\nfor name in {names!r}: importlib.import_module(name)")
    assert not (site / "lib").exists()
