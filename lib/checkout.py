"""The checkout of this code."""

import functools
import subprocess

from lib.parameters import ROOT


@functools.cache
def commit() -> str | None:
    """The commit, which ends in "-dirty" where files differ from it; None where there is no git to ask."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    except OSError:
        return None
