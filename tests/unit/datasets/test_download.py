"""Downloads, from a small server on this machine."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cellular_bench.benchmark.errors import DataError
from cellular_bench.benchmark.types import DatasetSpec
from cellular_bench.datasets.catalog import load
from cellular_bench.datasets.download import cache_dir, fetch


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files; ``/cut`` promises more bytes than it sends."""

    def do_GET(self) -> None:
        if self.path != "/cut.h5ad":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"half")
        return None

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    served = tmp_path / "served"
    served.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=served)) as running:
        running.served = served
        running.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(folder))
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_is_downloaded_once(server, cache):
    (server.served / "x.h5ad").write_bytes(b"data")
    path = fetch(f"{server.url}/x.h5ad", sha256=sha256(b"data"), dataset_id="x")
    assert path.read_bytes() == b"data"
    assert files_in(cache) == [path]
    (server.served / "x.h5ad").unlink()
    assert fetch(f"{server.url}/x.h5ad", sha256=sha256(b"data"), dataset_id="x") == path


def test_a_damaged_copy_is_replaced(server):
    (server.served / "x.h5ad").write_bytes(b"data")
    path = fetch(f"{server.url}/x.h5ad", sha256=sha256(b"data"), dataset_id="x")
    path.write_bytes(b"rust")
    assert fetch(f"{server.url}/x.h5ad", sha256=sha256(b"data"), dataset_id="x").read_bytes() == b"data"


def test_a_changed_file_is_refused_and_not_kept(server, cache):
    (server.served / "x.h5ad").write_bytes(b"new")
    with pytest.raises(DataError) as caught:
        fetch(f"{server.url}/x.h5ad", sha256=sha256(b"old"), dataset_id="x")
    assert caught.value.problems == (
        f"The file at {server.url}/x.h5ad has changed: its sha256 is {sha256(b'new')}, "
        f"expected {sha256(b'old')}.",
    )
    assert files_in(cache) == []


def test_an_interrupted_download_leaves_nothing(server, cache):
    with pytest.raises(DataError):
        fetch(f"{server.url}/cut.h5ad", sha256=sha256(b"half and half"), dataset_id="x")
    assert files_in(cache) == []


def test_what_cannot_be_reached_is_named(server):
    with pytest.raises(DataError) as caught:
        fetch(f"{server.url}/nothing.h5ad", sha256="0", dataset_id="x")
    assert caught.value.problems == (
        f"Cannot download {server.url}/nothing.h5ad: File not found. "
        "Check the connection, or load the file by its path.",
    )
    with pytest.raises(DataError, match=r"Cannot download http://127.0.0.1:9/x: .*Connection refused"):
        fetch("http://127.0.0.1:9/x", sha256="0", dataset_id="x")


def test_only_web_addresses_are_opened(tmp_path):
    with pytest.raises(DataError, match="expected an address with http or https"):
        fetch(f"file://{tmp_path}/x.h5ad", sha256="0", dataset_id="x")


def test_a_data_set_is_loaded_from_its_address(server, adata, write):
    content = write(adata).read_bytes()
    (server.served / "mine.h5ad").write_bytes(content)
    source = {"kind": "url", "url": f"{server.url}/mine.h5ad", "sha256": sha256(content)}
    spec = DatasetSpec(
        dataset_id="mine", title="Mine", source=source, label_key="cell_type", batch_key="donor"
    )
    assert load(spec).adata.shape == (6, 4)


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch):
    monkeypatch.delenv("CELLULAR_BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere/cellular-bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir() == Path("/home/me/.cache/cellular-bench")
