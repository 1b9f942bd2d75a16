"""Downloads, from a small server on this machine."""

import hashlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from cellular_bench.core.errors import DataError
from cellular_bench.core.files import cache_dir
from cellular_bench.core.types import DatasetSpec
from cellular_bench.datasets.catalog import load
from cellular_bench.datasets.sources.cache import Wanted, place, remembered_sha256
from cellular_bench.datasets.sources.download import Options, fetch, obtain

CONTENT = bytes(range(256)) * 40


class Handler(SimpleHTTPRequestHandler):
    """Serves files; names in ``server.odd`` get a behaviour of their own. Every request is noted."""

    def do_GET(self) -> None:
        name = self.path.strip("/")
        self.server.requests.append((name, self.headers.get("Range")))
        behaviour = self.server.odd.get(name)
        if behaviour is None:
            super().do_GET()
        else:
            behaviour(self)

    def answer(self, status: int, body: bytes, *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    served = tmp_path / "served"
    served.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=served)) as running:
        running.served, running.odd, running.requests = served, {}, []
        running.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def half_then_range(*, etag: str = '"1"', content: bytes = CONTENT) -> Callable[[Handler], None]:
    """Die half-way through a whole file; serve the rest of it to those who ask for the rest."""

    def behave(handler: Handler) -> None:
        asked, given = handler.headers.get("Range"), handler.headers.get("If-Range")
        if asked and given in (None, etag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            handler.answer(206, content[start:], ETag=etag, Content_Range=span)
        elif asked:
            handler.answer(200, content, ETag=etag)
        else:
            handler.answer(200, content[: len(content) // 2], length=len(content), ETag=etag)

    return behave


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(folder))
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def quick(**options: object) -> Options:
    return Options(**{"pause_s": 0.01, "attempts": 3} | options)


def wanted(server: ThreadingHTTPServer, name: str, **known: object) -> Wanted:
    return Wanted(**{"urls": (f"{server.url}/{name}",), "name": name} | known)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


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


def test_a_truncated_body_is_never_taken_for_data(server, cache):
    server.odd["x.h5ad"] = lambda handler: handler.answer(200, CONTENT[:1000], length=len(CONTENT))
    with pytest.raises(DataError) as caught:
        obtain(wanted(server, "x.h5ad", sha256=sha256(CONTENT)), dataset_id="x", options=quick())
    assert caught.value.problems == (
        f"Cannot download {server.url}/x.h5ad: the connection ended after 1000 of {len(CONTENT)} bytes, "
        "3 times. Check the connection, or load the file by its path. "
        "1000 bytes are kept, and the next call resumes there.",
    )
    assert sorted(path.name for path in files_in(cache)) == ["x.h5ad.part", "x.h5ad.part.json"]


def test_a_server_that_dies_half_way_is_asked_for_the_rest(server, cache):
    server.odd["x.h5ad"] = half_then_range()
    seen = []
    options = quick(progress=lambda done, total: seen.append((done, total)))
    path = obtain(wanted(server, "x.h5ad", sha256=sha256(CONTENT)), dataset_id="x", options=options)
    assert path.read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert server.requests == [("x.h5ad", None), ("x.h5ad", f"bytes={half}-")]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert files_in(cache) == [path]


def test_a_later_call_goes_on_where_an_earlier_one_ended(server):
    server.odd["x.h5ad"] = half_then_range()
    with pytest.raises(DataError, match="bytes are kept"):
        obtain(wanted(server, "x.h5ad", sha256=sha256(CONTENT)), dataset_id="x", options=quick(attempts=1))
    path = obtain(wanted(server, "x.h5ad", sha256=sha256(CONTENT)), dataset_id="x", options=quick(attempts=1))
    assert path.read_bytes() == CONTENT
    assert server.requests[-1] == ("x.h5ad", f"bytes={len(CONTENT) // 2}-")


@pytest.mark.parametrize("note", ["", '{"url": "http', "[]"])
def test_a_broken_note_beside_a_part_does_not_end_every_later_call(server, note):
    server.odd["x.h5ad"] = half_then_range()
    request = wanted(server, "x.h5ad", sha256=sha256(CONTENT))
    with pytest.raises(DataError, match="bytes are kept"):
        obtain(request, dataset_id="x", options=quick(attempts=1))
    place(request).with_name("x.h5ad.part.json").write_text(note)
    assert obtain(request, dataset_id="x", options=quick(attempts=1)).read_bytes() == CONTENT


def test_a_server_that_dies_often_is_asked_as_long_as_the_file_grows(server):
    content = CONTENT * 1000

    def slice_by_slice(handler: Handler) -> None:
        start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start : start + (2 << 20)]
        status = 206 if start else 200
        handler.answer(status, body, length=len(content) - start, ETag='"1"', Content_Range=span)

    server.odd["x.h5ad"] = slice_by_slice
    request = wanted(server, "x.h5ad", sha256=sha256(content))
    assert obtain(request, dataset_id="x", options=quick(attempts=1)).read_bytes() == content
    assert len(server.requests) == 5


def test_a_file_that_changed_in_between_is_fetched_from_its_beginning(server):
    old, new = CONTENT, CONTENT[::-1]
    server.odd["x.h5ad"] = half_then_range(etag='"old"', content=old)
    with pytest.raises(DataError):
        obtain(wanted(server, "x.h5ad", sha256=sha256(new)), dataset_id="x", options=quick(attempts=1))
    server.odd["x.h5ad"] = half_then_range(etag='"new"', content=new)
    path = obtain(wanted(server, "x.h5ad", sha256=sha256(new)), dataset_id="x", options=quick(attempts=1))
    assert path.read_bytes() == new


def test_halves_of_two_files_are_never_kept(server, cache):
    # A server without validators: only the checksum can tell, and it does.
    (server.served / "x.h5ad").write_bytes(CONTENT)
    part = place(wanted(server, "x.h5ad", sha256=sha256(CONTENT))).with_name("x.h5ad.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"other" * 10)

    def rest(handler: Handler) -> None:
        handler.answer(206, CONTENT[50:], Content_Range=f"bytes 50-{len(CONTENT) - 1}/{len(CONTENT)}")

    server.odd["x.h5ad"] = rest
    with pytest.raises(DataError, match="has changed: its sha256 is"):
        obtain(wanted(server, "x.h5ad", sha256=sha256(CONTENT)), dataset_id="x", options=quick())
    assert files_in(cache) == []
    server.odd.clear()
    path = obtain(wanted(server, "x.h5ad", sha256=sha256(CONTENT)), dataset_id="x", options=quick())
    assert path.read_bytes() == CONTENT


def test_a_slow_server_is_given_up_after_the_time_limit(server):
    released = threading.Event()

    def behave(handler: Handler) -> None:
        handler.answer(200, CONTENT[:10], length=len(CONTENT))
        handler.wfile.flush()
        released.wait(20)

    server.odd["x.h5ad"] = behave
    start = time.monotonic()
    with pytest.raises(DataError, match=r"no byte arrived for 0\.2 s, 2 times"):
        obtain(
            wanted(server, "x.h5ad", sha256="0" * 64),
            dataset_id="x",
            options=quick(timeout_s=0.2, attempts=2),
        )
    assert time.monotonic() - start < 10
    released.set()


def test_a_server_in_trouble_is_asked_again_and_a_missing_file_is_not(server):
    def trouble(handler: Handler) -> None:
        if len(server.requests) < 3:
            handler.answer(503, b"")
        else:
            handler.answer(200, CONTENT)

    server.odd["x.h5ad"] = trouble
    path = obtain(wanted(server, "x.h5ad", sha256=sha256(CONTENT)), dataset_id="x", options=quick())
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 3
    with pytest.raises(DataError, match=r"File not found \(404\)"):
        obtain(wanted(server, "nothing", sha256="0" * 64), dataset_id="x", options=quick())
    assert len(server.requests) == 4


def test_mirrors_are_tried_in_order_and_all_failures_are_told(server):
    (server.served / "good.h5ad").write_bytes(CONTENT)
    (server.served / "other.h5ad").write_bytes(b"other")
    urls = tuple(f"{server.url}/{name}" for name in ("gone.h5ad", "other.h5ad", "good.h5ad"))
    found = obtain(Wanted(urls=urls, name="x.h5ad", sha256=sha256(CONTENT)), dataset_id="x", options=quick())
    assert found.read_bytes() == CONTENT
    found.unlink()
    with pytest.raises(DataError) as caught:
        obtain(Wanted(urls=urls[:2], name="x.h5ad", sha256=sha256(CONTENT)), dataset_id="x", options=quick())
    assert len(caught.value.problems) == 2
    assert "404" in caught.value.problems[0]
    assert f"its sha256 is {sha256(b'other')}" in caught.value.problems[1]


def test_md5_and_size_are_checked_where_they_are_all_that_is_known(server):
    (server.served / "x.h5ad").write_bytes(CONTENT)
    md5 = hashlib.md5(CONTENT).hexdigest()
    good = wanted(server, "x.h5ad", md5=md5, size=len(CONTENT))
    assert obtain(good, dataset_id="x", options=quick()).read_bytes() == CONTENT
    with pytest.raises(DataError, match=f"its md5 is {md5}, expected {'0' * 32}"):
        obtain(wanted(server, "x.h5ad", md5="0" * 32), dataset_id="x", options=quick())
    with pytest.raises(DataError, match="it has more than 7 bytes"):
        obtain(wanted(server, "x.h5ad", md5=md5, size=7), dataset_id="x", options=quick())


def test_a_file_without_checksum_needs_consent_and_is_remembered(server):
    (server.served / "x.h5ad").write_bytes(CONTENT)
    request = wanted(server, "x.h5ad")
    with pytest.raises(DataError, match=r"No checksum is known for x\.h5ad.*--allow-unverified"):
        obtain(request, dataset_id="x", options=quick())
    path = obtain(request, dataset_id="x", options=quick(allow_unverified=True))
    assert remembered_sha256(request) == sha256(CONTENT)
    path.unlink()
    (server.served / "x.h5ad").write_bytes(b"changed")
    with pytest.raises(DataError, match=f"and was {sha256(CONTENT)} when it was first fetched"):
        obtain(request, dataset_id="x", options=quick(allow_unverified=True))


def test_offline_uses_the_cache_and_nothing_else(server):
    (server.served / "x.h5ad").write_bytes(CONTENT)
    request = wanted(server, "x.h5ad", sha256=sha256(CONTENT))
    with pytest.raises(DataError, match=r"x.h5ad is not in the cache \(.*\), and --offline forbids"):
        obtain(request, dataset_id="x", options=quick(offline=True))
    assert server.requests == []
    path = obtain(request, dataset_id="x", options=quick())
    assert obtain(request, dataset_id="x", options=quick(offline=True)) == path
    assert len(server.requests) == 1


def test_a_full_disk_is_noticed_before_it_is_full(server, monkeypatch):
    (server.served / "x.h5ad").write_bytes(CONTENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(DataError, match=f"no room for it: {len(CONTENT)} bytes are missing and 100 are free"):
        obtain(wanted(server, "x.h5ad", sha256=sha256(CONTENT)), dataset_id="x", options=quick())


def test_two_that_want_one_file_fetch_it_once(server):
    (server.served / "x.h5ad").write_bytes(CONTENT)
    request = wanted(server, "x.h5ad", sha256=sha256(CONTENT))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(obtain, request, dataset_id="x", options=quick()) for _ in range(4)]
        assert {future.result().read_bytes() for future in asked} == {CONTENT}
    assert len(server.requests) == 1


def test_what_cannot_be_reached_is_named(server):
    with pytest.raises(DataError) as caught:
        fetch(f"{server.url}/nothing.h5ad", sha256=sha256(b""), dataset_id="x")
    assert caught.value.problems == (
        f"Cannot download {server.url}/nothing.h5ad: File not found (404). "
        "Check the connection, or load the file by its path.",
    )
    with pytest.raises(
        DataError, match=r"Cannot download http://127.0.0.1:9/x: .*Connection refused, 3 times"
    ):
        fetch("http://127.0.0.1:9/x", sha256=sha256(b""), dataset_id="x", options=quick())


def test_only_web_addresses_are_opened(tmp_path):
    with pytest.raises(DataError, match="expected an address with http or https"):
        fetch(f"file://{tmp_path}/x.h5ad", sha256=sha256(b""), dataset_id="x")


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
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_dir() == Path("/home/me/Library/Caches/cellular-bench")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_dir() == Path("/local/cellular-bench")


def redirect(to: str, status: int = 302) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, b"", Location=to)


@pytest.mark.parametrize(
    "to", ["ftp://127.0.0.1:9/x", "file:///etc/passwd", "http://u:p@127.0.0.1:9/x", "data:,x"]
)
def test_a_redirect_leads_to_the_web_alone_and_carries_no_password(server, cache, to):
    server.odd["x"] = redirect(to)
    with pytest.raises(DataError, match=r"redirected to|redirection to url|is not allowed"):
        obtain(wanted(server, "x", sha256=sha256(CONTENT)), dataset_id="x", options=quick())
    assert files_in(cache) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_web_is_followed(server, status):
    (server.served / "y").write_bytes(CONTENT)
    server.odd["x"] = redirect(f"{server.url}/y", status)
    request = wanted(server, "x", sha256=sha256(CONTENT))
    assert obtain(request, dataset_id="x", options=quick()).read_bytes() == CONTENT


def test_a_redirect_from_https_to_http_is_refused():
    from email.message import Message
    from urllib.error import HTTPError
    from urllib.request import Request

    from cellular_bench.datasets.sources.download import Redirects

    with pytest.raises(HTTPError, match="from https, only https is followed"):
        Redirects().redirect_request(Request("https://h/x"), None, 302, "", Message(), "http://h/x")


def test_redirects_without_end_are_given_up(server):
    server.odd["x"] = redirect("/x")
    with pytest.raises(DataError, match="would lead to an infinite loop"):
        obtain(wanted(server, "x", sha256=sha256(CONTENT)), dataset_id="x", options=quick())


@pytest.mark.parametrize("says", [True, False])
def test_a_declared_size_caps_the_answer(server, cache, says):
    """Attack: the server sends without end, whether it announces a length or not."""
    sent = []

    def behave(handler: Handler) -> None:
        handler.send_response(200)
        if says:
            handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        try:
            while len(sent) < 10_000:
                handler.wfile.write(bytes(1 << 16))
                sent.append(1)
        except OSError:
            pass

    server.odd["x"] = behave
    with pytest.raises(DataError, match=r"it has more than 1000 bytes\. Nothing of it is kept"):
        obtain(wanted(server, "x", sha256=sha256(CONTENT), size=1000), dataset_id="x", options=quick())
    assert files_in(cache) == []
    assert len(sent) < 10_000
    assert len(server.requests) == 1


def test_a_file_of_unknown_size_has_a_limit_too(server, cache, monkeypatch):
    monkeypatch.setattr("cellular_bench.datasets.sources.download.MAX_BYTES", 1000)
    server.odd["x"] = lambda handler: handler.answer(200, CONTENT)
    with pytest.raises(DataError, match="it has more than 1000 bytes"):
        obtain(wanted(server, "x", sha256=sha256(CONTENT)), dataset_id="x", options=quick())
    assert files_in(cache) == []


def test_a_resumed_answer_is_capped_as_well(server, cache):
    """Attack: the first half is right, and the rest never ends."""
    size = len(CONTENT)

    def behave(handler: Handler) -> None:
        if handler.headers.get("Range"):
            span = f"bytes {size // 2}-{size * 3 - 1}/{size * 3}"
            handler.answer(206, CONTENT * 2, ETag='"1"', Content_Range=span)
        else:
            handler.answer(200, CONTENT[: size // 2], length=size, ETag='"1"')

    server.odd["x"] = behave
    with pytest.raises(DataError, match=f"it has more than {size} bytes"):
        obtain(wanted(server, "x", sha256=sha256(CONTENT), size=size), dataset_id="x", options=quick())
    assert files_in(cache) == []


@pytest.mark.parametrize("length", ["-5", "many", "9" * 400, "٣"])
def test_a_length_that_is_none_harms_nobody(server, length):
    def behave(handler: Handler) -> None:
        handler.send_response(200)
        handler.wfile.flush()
        handler._headers_buffer.append(f"Content-Length: {length}\r\n".encode())
        handler.end_headers()
        handler.wfile.write(CONTENT)

    server.odd["x"] = behave
    request = wanted(server, "x", sha256=sha256(CONTENT))
    try:
        assert obtain(request, dataset_id="x", options=quick()).read_bytes() == CONTENT
    except DataError as error:
        assert "Cannot download" in str(error)


def test_a_server_that_drips_is_given_up(server):
    """Attack: a byte now and then, so that no wait for a byte is ever too long."""

    def behave(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(b"x")
                time.sleep(0.02)
        except OSError:
            pass

    server.odd["x"] = behave
    start = time.monotonic()
    with pytest.raises(DataError, match=r"less than 1048576 bytes arrived in 0\.2 s, 2 times"):
        obtain(
            wanted(server, "x", sha256=sha256(CONTENT)),
            dataset_id="x",
            options=quick(slow_s=0.2, attempts=2),
        )
    assert time.monotonic() - start < 10


def test_the_name_that_a_server_proposes_is_ignored(server, cache):
    disposition = 'attachment; filename="../../evil"'
    server.odd["x"] = lambda handler: handler.answer(200, CONTENT, Content_Disposition=disposition)
    request = wanted(server, "x", sha256=sha256(CONTENT))
    path = obtain(request, dataset_id="x", options=quick())
    assert files_in(cache) == [path] == [place(request)]


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@h/x",
        "https://user@h/x",
        "ftp://h/x",
        "file:///etc/passwd",
        "/etc/passwd",
        "https:///x",
        "https://h:0/x",
        "https://h:999999/x",
        "https://[/x",
        "https://h/a b",
        "https://h/a\nb",
        "https://h\u200b/x",
        "jar:https://h/x",
        "",
    ],
)
def test_what_is_no_plain_address_of_the_web_is_not_opened(url, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *arguments: pytest.fail("it connected"))
    with pytest.raises(DataError, match="Cannot download"):
        fetch(url, sha256=sha256(CONTENT), dataset_id="x", options=quick())


@pytest.mark.parametrize(
    "known",
    [
        {"name": "../x"},
        {"name": "/etc/x"},
        {"name": ".x"},
        {"name": "a/b"},
        {"name": "a\\b"},
        {"name": ""},
        {"name": "x\0"},
        {"sha256": "../../../../x"},
        {"sha256": "A" * 64},
        {"md5": "../x"},
        {"size": -1},
    ],
)
def test_nothing_that_becomes_part_of_a_path_leaves_the_cache(known):
    with pytest.raises(DataError, match="A file to be fetched"):
        Wanted(**{"urls": ("https://h/x",), "name": "x"} | known)


@pytest.mark.parametrize(
    "url", ["https://h/..", "https://h/a/.", "https://h/.x", "https://h/", "https://h/a%2F.."]
)
def test_the_name_of_a_file_from_its_address_is_plain(url):
    from cellular_bench.datasets.sources.cache import file_name

    assert place(Wanted(urls=(url,), name=file_name(url))).resolve().is_relative_to(cache_dir().resolve())
