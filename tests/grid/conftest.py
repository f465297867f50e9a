import pytest


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """Notebooks make their figures and nobody draws them: here it matters what becomes of the runs."""
    monkeypatch.setenv("MPLBACKEND", "agg")
