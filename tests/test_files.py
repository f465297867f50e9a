import os
import subprocess
import sys
import threading

import pytest

from lib import files


def test_a_digest_is_the_beginning_of_sha_256():
    assert files.digest("abc") == files.digest(b"abc") == "ba7816bf"
    assert files.digest("abc", 64).endswith("f20015ad")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "sub" / "a"
    files.write_whole(path, lambda part: part.write_text("first"))

    def fail(part):
        part.write_text("sec")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, fail)
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_one_at_a_time_and_the_same_thread_again(tmp_path, caplog):
    caplog.set_level("INFO", logger="lib")
    order, inside = [], threading.Event()

    def other():
        inside.wait()
        with files.alone_in(tmp_path):
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with files.alone_in(tmp_path):
        with files.alone_in(tmp_path):
            inside.set()
            while "waiting for another process" not in caplog.text:
                pass
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_a_folder_that_cannot_be_locked_is_said(tmp_path, monkeypatch, caplog):
    def read_only(*_arguments, **_options):
        raise PermissionError("Read-only file system")

    monkeypatch.setattr("lib.files.FileLock.acquire", read_only)
    with files.alone_in(tmp_path):
        pass
    assert "cannot be locked: Read-only file system" in caplog.text


def test_scratch_goes_also_after_a_kill(tmp_path):
    command = f"""
import os, pathlib
from lib.files import scratch
with scratch(pathlib.Path({str(tmp_path)!r}), "a") as place:
    (place / "half").write_text("half")
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", command], env=os.environ, check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    with files.scratch(tmp_path, "a") as place:
        assert list(tmp_path.iterdir()) == [place]
    assert not list(tmp_path.iterdir())
