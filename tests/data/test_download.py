"""Against a server on this machine that can cut connections and forget what Range means."""

import hashlib
import http.server
import io
import sys
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from thinkrank._files import cache_folder
from thinkrank.data.download import cached, download
from thinkrank.errors import ThinkrankError


def zipped(content: bytes = b"u,i\n" * 5000) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", content)
    return buffer.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves one file, whatever the path."""

    body = zipped()
    understands_range = True
    cut_after: list[int]  # bytes after which to drop the connection, one for each of the next requests
    ranges: list[str | None]  # what was asked for
    status = 200


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.understands_range else 0
        if start and start >= len(self.server.body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.server.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        rest = self.server.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(self.server.body) - 1}/{len(self.server.body)}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.server.cut_after.pop(0)] if self.server.cut_after else rest)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[Server]:
    monkeypatch.setenv("THINKRANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    with Server(("127.0.0.1", 0), Handler) as server:
        server.cut_after, server.ranges = [], []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def url(server) -> str:
    return f"http://127.0.0.1:{server.server_port}/sets/one.zip"


def part_of(url: str):
    return cache_folder() / "downloads" / url.split("/")[2].replace(":", "_") / "sets" / "one.zip.part"


def test_a_file_is_fetched_once(server, url):
    assert cached(url) is None
    path = download(url, md5=hashlib.md5(server.body).hexdigest())
    assert path.read_bytes() == server.body
    assert download(url) == cached(url) == path
    assert server.ranges == [None]
    assert [file.name for file in path.parent.iterdir()] == ["one.zip"]


def test_who_wants_the_same_file_at_the_same_time_waits_for_it(server, url):
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(download, [url] * 4))
    assert server.ranges == [None]
    assert paths == {cached(url)}
    assert [file.name for file in cached(url).parent.iterdir()] == ["one.zip"]


def test_a_cut_connection_is_resumed_where_it_broke(server, url):
    server.cut_after = [1000, 500]
    assert download(url).read_bytes() == server.body
    assert server.ranges == [None, "bytes=1000-", "bytes=1500-"]


def test_a_connection_that_keeps_breaking_leaves_its_part_for_the_next_run(server, url):
    server.cut_after = [1000, 10, 10]
    with pytest.raises(ThinkrankError, match=r"broke off 3 times. Run again to resume"):
        download(url)
    assert cached(url) is None
    assert part_of(url).stat().st_size == 1020
    assert download(url).read_bytes() == server.body
    assert server.ranges[-1] == "bytes=1020-"


def test_a_server_without_range_sends_it_all_again(server, url):
    server.understands_range = False
    server.cut_after = [1000]
    assert download(url).read_bytes() == server.body
    assert server.ranges == [None, "bytes=1000-"]


@pytest.mark.parametrize("surplus", [b"", b"left over from a longer file"])
def test_a_part_with_nothing_missing_is_taken_or_fetched_anew(server, url, surplus):
    part_of(url).parent.mkdir(parents=True)
    part_of(url).write_bytes(server.body + surplus)
    assert download(url).read_bytes() == server.body
    assert len(server.ranges) == 1 + bool(surplus)


def test_a_wrong_checksum_is_refused_and_nothing_stays(server, url):
    with pytest.raises(ThinkrankError, match=r"its MD5 is .*, not 0123"):
        download(url, md5="0123")
    assert cached(url) is None
    assert not part_of(url).exists()


@pytest.mark.parametrize("body", [b"<html>please log in</html>", zipped()[:-30], zipped().replace(b"u,i", b"u,j", 1)])
def test_what_is_no_sound_zip_is_refused(server, url, body):
    server.body = body
    with pytest.raises(ThinkrankError, match="what came is not the file"):
        download(url)
    assert cached(url) is None


def test_what_is_no_gzip_is_refused(server, url):
    server.body = b"<html>"
    with pytest.raises(ThinkrankError, match="it is not gzip"):
        download(url.replace("one.zip", "one.csv.gz"))


def test_a_file_the_server_does_not_have_is_said_so(server, url):
    server.status = 404
    with pytest.raises(ThinkrankError, match=r"one\.zip: the server answers 404 .* give it with --path"):
        download(url)


def test_being_offline_names_the_address_and_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("THINKRANK_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(ThinkrankError, match=r"http://127\.0\.0\.1:9/x\.zip: cannot be reached .* give it with --path"):
        download("http://127.0.0.1:9/x.zip")


def test_a_cache_that_cannot_be_written_is_said_so(monkeypatch, tmp_path, server, url):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("THINKRANK_CACHE", str(tmp_path / "file"))
    with pytest.raises(ThinkrankError, match=r"cannot be written into .*: set THINKRANK_CACHE"):
        download(url)


def test_the_cache_is_where_the_platform_keeps_caches(monkeypatch):
    monkeypatch.delenv("THINKRANK_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    monkeypatch.setattr(sys, "platform", "linux")
    assert str(cache_folder()) == "/somewhere/thinkrank"
