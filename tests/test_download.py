"""Downloads from a server on this machine: right, wrong, missing, cut off, silent; each failure is a sentence."""

import hashlib
import http.server
import threading

import pytest

from bilevelbench import Unsupported
from bilevelbench.data import find
from bilevelbench.data.sources import File

CONTENT = bytes(range(256)) * 400


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the path that is asked for."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/silent":
            self.server.released.wait(60)
            return
        body = CONTENT[: len(CONTENT) // 2] if "cut" in self.path else CONTENT
        self.send_response(200)
        if self.path != "/cut-without-length":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing on the terminal."""


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.released = [], threading.Event()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache and no data folder; no proxy of the machine's stands between."""
    monkeypatch.delenv("BILEVELBENCH_DATA", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("bilevelbench.data.cache.root", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def wanted(server, *paths, content=CONTENT):
    port = server.server_address[1]
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    urls = tuple(f"http://127.0.0.1:{port}{path}" for path in paths)
    return File(("folder/f.gz",), len(content), digest, urls, lambda path: None)


def left(cache):
    return [path for path in cache.rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once_and_its_progress_shown(server, cache, monkeypatch):
    seen = []
    update = find.Watched.update
    monkeypatch.setattr(find.Watched, "update", lambda bar, n: (seen.append((n, bar.total)), update(bar, n))[1])
    file = wanted(server, "/good")
    path = find.find(file)
    assert path == cache / "folder/f.gz"
    assert path.read_bytes() == CONTENT
    assert left(cache) == [path]
    assert {total for _, total in seen} == {len(CONTENT)}
    assert seen[0][0] > 0
    assert find.find(file) == path
    assert server.asked == ["/good"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/missing", "404"),
        ("/cut", "the transfer broke off"),
        ("/cut-without-length", "another checksum"),
        ("/silent", "no answer"),
    ],
)
def test_a_failed_download_is_a_sentence_and_leaves_nothing(server, cache, path, words, monkeypatch):
    monkeypatch.setattr(find, "TIMEOUT", 0.3 if path == "/silent" else 60)
    with pytest.raises(Unsupported) as caught:
        find.find(wanted(server, path))
    said = str(caught.value)
    assert words in said
    assert said.startswith("folder/f.gz is neither in $BILEVELBENCH_DATA nor in the user cache")
    assert "\n" not in said
    assert left(cache) == []
    server.released.set()
    monkeypatch.setattr(find, "TIMEOUT", 60)
    assert find.find(wanted(server, path, "/good")).read_bytes() == CONTENT  # the next host has it


def test_another_file_than_expected_is_not_kept(server, cache):
    with pytest.raises(Unsupported, match="another checksum"):
        find.find(wanted(server, "/good", content=b"what the table says"))
    assert left(cache) == []


def test_a_host_that_is_gone_is_a_sentence(server, cache):
    file = wanted(server, "/good", "/other")
    server.shutdown()
    server.server_close()
    with pytest.raises(Unsupported, match=r"\(no connection, no connection\)"):
        find.find(file)
    assert left(cache) == []


def test_an_interrupted_download_leaves_nothing(server, cache, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(find.Watched, "update", interrupt)
    with pytest.raises(KeyboardInterrupt):
        find.find(wanted(server, "/good"))
    assert left(cache) == []
