import hashlib
import http.server
import subprocess
import sys
import threading

import pytest

from lib.checks import ParameterError
from lib.data.downloads import Archive, fetch
from tests.conftest import left

CONTENT = b"official" * 50_000
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server():
    """Serves what is put in `.files` by path, and counts the requests."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.server.asked.append(self.path)
            self.wfile.write(self.answer())

        def answer(self):
            content = self.server.files.get(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            return content or b""

        def log_message(self, *_arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.asked = {}, []
        running.address = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_downloads_once_with_a_progress_bar(tmp_path, server, capfd):
    server.files["/a.bin"] = CONTENT
    archive = Archive("sub/a.bin", MD5, (f"{server.address}/a.bin",))
    assert fetch(archive, tmp_path).read_bytes() == CONTENT
    assert "100%" in capfd.readouterr().err
    server.asked.clear()
    fetch(archive, tmp_path)
    assert server.asked == []
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a.bin"]


def test_the_next_mirror_is_asked(tmp_path, server):
    server.files["/b"] = CONTENT
    archive = Archive("a", MD5, (f"{server.address}/gone", f"{server.address}/b"))
    assert fetch(archive, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], b"", b"<html>sign in</html>"])
def test_a_cut_or_wrong_download_is_never_kept(tmp_path, server, content):
    server.files["/a"] = content
    with pytest.raises(FileNotFoundError, match=r"a is not in .*the download was cut or corrupted \(MD5 differs\)"):
        fetch(Archive("a", MD5, (f"{server.address}/a",)), tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize("content", [CONTENT[:-1], b"", b"other"])
def test_a_wrong_file_that_lies_there_is_named_and_not_used(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ParameterError, match=rf"{tmp_path}/a is cut, corrupted or another file .*; delete it"):
        fetch(Archive("a", MD5, ("http://127.0.0.1:9/a",)), tmp_path)
    assert (tmp_path / "a").read_bytes() == content


def test_a_download_that_breaks_off_is_never_kept(tmp_path, server, monkeypatch):
    def broken(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"ffff\r\nofficial")

    monkeypatch.setattr(server.RequestHandlerClass, "do_GET", broken)
    with pytest.raises(FileNotFoundError, match="could not be downloaded"):
        fetch(Archive("a", MD5, (f"{server.address}/a",)), tmp_path)
    assert left(tmp_path) == []


def test_a_server_that_is_silent_is_given_up(tmp_path, server, monkeypatch):
    given_up = threading.Event()
    monkeypatch.setattr(server.RequestHandlerClass, "do_GET", lambda handler: given_up.wait())
    monkeypatch.setattr("lib.data.downloads._TIMEOUT", 0.2)
    server.block_on_close = False
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded .*timed out"):
        fetch(Archive("a", MD5, (f"{server.address}/a",)), tmp_path)
    given_up.set()
    assert left(tmp_path) == []


@pytest.mark.slow
def test_two_that_download_the_same_file_do_not_break_each_other(tmp_path, server):
    server.files["/a"] = CONTENT
    command = [
        sys.executable,
        "-c",
        f"""
from pathlib import Path
from lib.data.downloads import Archive, fetch
fetch(Archive("a", "{MD5}", ("{server.address}/a",)), Path("{tmp_path}"))
""",
    ]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[1].count("Error") for process in both] == [0, 0]
    assert left(tmp_path) == ["a"]


def test_without_internet_the_error_names_the_file_and_its_place(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"a\.gz is not in {tmp_path}/raw .*place it there"):
        fetch(Archive("raw/a.gz", MD5, ("http://127.0.0.1:9/a.gz",)), tmp_path)
    assert not list((tmp_path / "raw").iterdir())


def test_a_file_placed_by_hand_needs_no_internet(tmp_path):
    (tmp_path / "a").write_bytes(CONTENT)
    assert fetch(Archive("a", MD5, ("http://127.0.0.1:9/a",)), tmp_path) == tmp_path / "a"
