"""The checkout of this code."""

import functools
import subprocess

from lib.parameters import ROOT


@functools.cache
def commit() -> str | None:
    """The commit, which ends in "-dirty" where files differ from it; None where there is no git to ask.

    Logs, figures and tables, which the code writes, are no part of it.
    """
    try:
        head = _git("rev-parse", "HEAD")
        if head.returncode:
            return None
        dirty = _git("diff", "--quiet", "HEAD", "--", ".", ":!figures", ":!logs").returncode
    except OSError:
        return None
    return head.stdout.strip() + ("-dirty" if dirty else "")


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
