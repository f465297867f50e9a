"""Official archives: downloaded with a progress bar, checked, and never used where they are not what they should be."""

import http.client
import logging
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lib.checks import ParameterError

_log = logging.getLogger("lib")
_TIMEOUT = 60  # seconds that a server may be silent


@dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
        file: where it lies, relative to the data folder.
        md5: its official checksum.
        urls: where it is, the mirrors in turn.
    """

    file: str
    md5: str
    urls: tuple[str, ...]


def fetch(archive: Archive, folder: Path) -> Path:
    """The checked archive in the data folder, downloaded where it is not there.

    Args:
        archive: what is needed.
        folder: the data folder.

    Returns:
        Path of the file.

    Raises:
        ParameterError: for a file that is there and whose checksum is wrong.
        FileNotFoundError: where it is absent and cannot be downloaded whole; says what to place where.
    """
    from lib.torchvision_operators import declare

    declare()
    from torchvision.datasets.utils import check_integrity, download_url

    target = folder / archive.file
    if target.exists():
        if not check_integrity(str(target), archive.md5):
            raise ParameterError(f"data_folder: {target} is cut, corrupted or another file (MD5 differs); delete it")
        return target
    failures = []
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    patience = socket.getdefaulttimeout()
    for url in archive.urls:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _log.info("download %s", url)
            socket.setdefaulttimeout(_TIMEOUT)
            download_url(url, str(part.parent), part.name, archive.md5)
            part.replace(target)
            return target
        except RuntimeError:  # what torchvision raises where the checksum is wrong
            failures.append(f"{url}: the download was cut or corrupted (MD5 differs)")
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{url}: {' '.join(str(error).split())}")
        finally:
            socket.setdefaulttimeout(patience)
            with suppress(OSError):
                part.unlink()
    raise FileNotFoundError(
        f"data_folder: {target.name} is not in {target.parent} and could not be downloaded "
        f"({'; '.join(failures)}); place it there"
    )
