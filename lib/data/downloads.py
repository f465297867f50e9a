"""Official archives: downloaded with a progress bar, checked, and never used where they are not what they should be."""

import logging
from dataclasses import dataclass
from pathlib import Path

import pooch

from lib.checks import ParameterError
from lib.files import alone_in, scratch

_log = logging.getLogger("lib")
_TIMEOUT = 60  # seconds that a server may be silent
_CHUNK = 1 << 16  # bytes between two looks at the progress bar


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
    """Path of the checked archive in the data folder, downloaded where it is not there.

    Raises:
        ParameterError: for a file that is there and whose checksum is wrong.
        FileNotFoundError: where it is absent and cannot be downloaded whole; says what to place where.
    """
    target = folder / archive.file
    if not target.exists():
        with alone_in(folder):
            if not target.exists():  # another process may have got it meanwhile
                _download(archive, folder, target)
                return target
    if pooch.file_hash(str(target), "md5") != archive.md5:
        raise ParameterError(f"data_folder: {target} is cut, corrupted or another file (MD5 differs); delete it")
    return target


def _download(archive: Archive, folder: Path, target: Path) -> None:
    download = pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT, chunk_size=_CHUNK)
    failures = []
    for url in archive.urls:
        _log.info("download %s", url)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with scratch(folder, target.name) as place:
                part = pooch.retrieve(url, f"md5:{archive.md5}", target.name, place, downloader=download)
                Path(part).replace(target)
            return
        except OSError as error:
            failures.append(f"{url}: {' '.join(str(error).split())}")
        except ValueError:  # what pooch raises where the checksum is wrong
            failures.append(f"{url}: the download was cut or corrupted (MD5 differs)")
    raise FileNotFoundError(
        f"data_folder: {target.name} is not in {target.parent} and could not be downloaded "
        f"({'; '.join(failures)}); place it there"
    )
