"""Weight files: none is used before its SHA-256 is checked."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from synthbench.errors import UsageError, WeightsError
from synthbench.metrics.extractors import weights
from synthbench.metrics.extractors.weights import (
    WeightFile,
    fetch,
    known_sha256,
    locate,
    verified,
    weights_folder,
)

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER_SHA256 = hashlib.sha256(b"other").hexdigest()
# Port 9 is "discard": nothing listens on it, and the loopback refuses at once.
OFFLINE = WeightFile("net", "http://127.0.0.1:9/net.pth", SHA256, "net.pth", 1, "MIT")


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Keep the requests off standard error."""


class Ranges(Silent):
    """Serve the content, whole or from an offset, and break off as often as `pieces` says.

    Class attributes, set by a subclass of each test: `pieces`, the bytes after which each request
    breaks off (none left: it does not); `requested`, the Range of each request.
    """

    pieces: ClassVar[list[int]]
    requested: ClassVar[list[str | None]]
    honours_ranges = True

    def do_GET(self) -> None:
        range_header = self.headers["Range"]
        self.requested.append(range_header)
        start = 0
        if range_header and self.honours_ranges:
            start = int(range_header.removeprefix("bytes=").removesuffix("-"))
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        rest = CONTENT[start:]
        self.wfile.write(rest[: self.pieces.pop(0)] if self.pieces else rest)
        self.close_connection = True


Serve = Callable[[type[SimpleHTTPRequestHandler] | partial[Silent]], str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "127.0.0.1")
    monkeypatch.setenv("SYNTHBENCH_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that serves requests on the loopback until the test ends."""
    with ExitStack() as running:

        def start(handler: type[SimpleHTTPRequestHandler] | partial[Silent]) -> str:
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            running.callback(server.server_close)
            running.callback(thread.join)
            running.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


@pytest.fixture
def online(tmp_path: Path, serve: Serve) -> WeightFile:
    """Serve the file from the loopback."""
    published = tmp_path / "published"
    published.mkdir()
    (published / "net.pth").write_bytes(CONTENT)
    return replace(OFFLINE, url=serve(partial(Silent, directory=str(published))) + "/net.pth")


def put(folder: Path, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "net.pth"
    path.write_bytes(content)
    return path


def test_the_folder_of_the_environment_variable(folder: Path):
    assert weights_folder() == folder


def test_the_folder_without_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SYNTHBENCH_WEIGHTS")
    assert weights_folder().parts[-2:] == ("synthbench", "weights")


def test_locate(folder: Path):
    assert locate(OFFLINE) is None
    path = put(folder, b"anything")
    assert locate(OFFLINE) == path


def test_verified(folder: Path):
    path = put(folder, CONTENT)
    assert verified(OFFLINE) == path


def test_a_missing_file_names_the_command_the_file_and_the_folder(folder: Path):
    with pytest.raises(WeightsError) as caught:
        verified(OFFLINE)
    message = str(caught.value)
    assert "`synthbench fetch net`" in message
    assert str(folder / "net.pth") in message
    assert OFFLINE.url in message
    assert "SYNTHBENCH_WEIGHTS" in message


def test_another_hash_is_named_with_both_and_the_file_left_in_place(folder: Path):
    path = put(folder, b"other")
    for use in (verified, fetch):
        with pytest.raises(WeightsError) as caught:
            use(OFFLINE)
        assert SHA256 in str(caught.value)
        assert OTHER_SHA256 in str(caught.value)
    assert path.read_bytes() == b"other"


def test_fetch_downloads_and_verifies(online: WeightFile, folder: Path):
    path = fetch(online)
    assert path == folder / "net.pth" == verified(online)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in folder.iterdir()] == ["net.pth"]


def test_fetch_leaves_a_verified_file_alone(folder: Path):
    path = put(folder, CONTENT)
    assert fetch(OFFLINE) == path


def test_fetch_keeps_nothing_that_has_another_hash(online: WeightFile, folder: Path):
    with pytest.raises(WeightsError, match=f"must have the sha256 {OTHER_SHA256}"):
        fetch(replace(online, sha256=OTHER_SHA256))
    assert list(folder.iterdir()) == []


def test_fetch_without_a_network_says_which_file_to_put_where(folder: Path):
    with pytest.raises(WeightsError) as caught:
        fetch(OFFLINE)
    message = str(caught.value)
    assert "could not be downloaded (ConnectionError" in message
    assert str(folder / "net.pth") in message
    assert list(folder.iterdir()) == []


def test_fetch_of_a_file_that_is_gone(online: WeightFile):
    with pytest.raises(WeightsError, match="404"):
        fetch(replace(online, url=online.url.replace("net.pth", "gone.pth")))


def breaking_off(*after: int, honours_ranges: bool = True) -> type[Ranges]:
    """A server whose first requests break off after so many bytes each."""
    attributes = {"pieces": list(after), "requested": [], "honours_ranges": honours_ranges}
    return type("Breaking", (Ranges,), attributes)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what arrives in pieces of 100 bytes: what is in no whole piece is requested again."""
    monkeypatch.setattr(weights, "CHUNK_BYTES", 100)


@pytest.mark.usefixtures("small_chunks")
def test_a_broken_download_goes_on_where_it_broke_off(serve: Serve, folder: Path):
    server = breaking_off(1000, 2000)
    path = fetch(replace(OFFLINE, url=serve(server) + "/net.pth"))
    assert path.read_bytes() == CONTENT
    assert server.requested == [None, "bytes=1000-", "bytes=3000-"]
    assert [p.name for p in folder.iterdir()] == ["net.pth"]


@pytest.mark.usefixtures("small_chunks")
def test_a_download_that_brings_nothing_more_is_kept_for_the_next_call(serve: Serve, folder: Path):
    server = breaking_off(1000, 0)
    file = replace(OFFLINE, url=serve(server) + "/net.pth")
    with pytest.raises(WeightsError) as caught:
        fetch(file)
    part = folder / "net.pth.part"
    assert f"the 1000 bytes in {part} are kept. Try again" in str(caught.value)
    assert part.read_bytes() == CONTENT[:1000]
    assert locate(file) is None
    assert fetch(file).read_bytes() == CONTENT
    assert server.requested == [None, "bytes=1000-", "bytes=1000-"]


@pytest.mark.usefixtures("small_chunks")
def test_a_server_without_ranges_starts_anew(serve: Serve):
    server = breaking_off(1000, honours_ranges=False)
    path = fetch(replace(OFFLINE, url=serve(server) + "/net.pth"))
    assert path.read_bytes() == CONTENT
    assert server.requested == [None, "bytes=1000-"]


def test_a_part_that_is_whole_is_taken(serve: Serve, folder: Path):
    """As after an interruption between the last byte and the new name."""
    put(folder, CONTENT).rename(folder / "net.pth.part")
    server = breaking_off()
    assert fetch(replace(OFFLINE, url=serve(server) + "/net.pth")).read_bytes() == CONTENT
    assert server.requested == [f"bytes={len(CONTENT)}-"]


def test_a_part_of_another_file_is_thrown_away(serve: Serve, folder: Path):
    put(folder, b"other").rename(folder / "net.pth.part")
    file = replace(OFFLINE, url=serve(breaking_off()) + "/net.pth")
    with pytest.raises(WeightsError, match=rf"must have the sha256 {SHA256}; found .*deleted"):
        fetch(file)
    assert list(folder.iterdir()) == []
    assert fetch(file).read_bytes() == CONTENT


def test_the_proxy_of_the_environment_is_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    """A proxy gets the whole address; the host in it need not exist."""
    addresses = []

    class Proxy(breaking_off()):  # type: ignore[misc]
        def do_GET(self) -> None:
            addresses.append(self.path)
            super().do_GET()

    monkeypatch.setenv("http_proxy", serve(Proxy))
    path = fetch(replace(OFFLINE, url="http://weights.invalid/net.pth"))
    assert path.read_bytes() == CONTENT
    assert addresses == ["http://weights.invalid/net.pth"]


@pytest.mark.usefixtures("small_chunks")
def test_progress_goes_on_where_the_download_does(
    serve: Serve, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of 7000 bytes, 1000 are there; then come 6000 more, and the total stays the same."""
    steps: list[tuple[str, int, int]] = []
    monkeypatch.setattr(weights, "MEGABYTE", 1)
    put(folder, CONTENT[:1000]).rename(folder / "net.pth.part")
    fetch(
        replace(OFFLINE, url=serve(breaking_off()) + "/net.pth"),
        progress=lambda *step: steps.append(step),
    )
    assert (steps[0], steps[-1]) == (("net.pth, MB", 1000, 7000), ("net.pth, MB", 7000, 7000))
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert {total for *_, total in steps} == {7000}


def test_an_unknown_hash_is_asked_for_once(online: WeightFile, folder: Path):
    unknown = replace(online, sha256=None)
    with pytest.raises(WeightsError, match="`synthbench fetch net --sha256 HASH`"):
        fetch(unknown)
    assert locate(unknown) is None

    path = fetch(unknown, sha256=SHA256.upper())

    assert json.loads((folder / "recorded_sha256.json").read_text(encoding="utf-8")) == {
        "net.pth": SHA256
    }
    assert known_sha256(unknown) == SHA256
    assert fetch(unknown) == verified(unknown) == path


def test_a_file_of_unknown_hash_is_not_used_but_its_hash_is_said(folder: Path):
    put(folder, CONTENT)
    with pytest.raises(WeightsError, match=SHA256):
        verified(replace(OFFLINE, sha256=None))


def test_recording_keeps_the_other_records(folder: Path):
    put(folder, CONTENT)
    (folder / "recorded_sha256.json").write_text(
        json.dumps({"else.pth": OTHER_SHA256}), encoding="utf-8"
    )
    fetch(replace(OFFLINE, sha256=None), sha256=SHA256)
    record = json.loads((folder / "recorded_sha256.json").read_text(encoding="utf-8"))
    assert record == {"else.pth": OTHER_SHA256, "net.pth": SHA256}


def test_a_wrong_hash_is_not_recorded(folder: Path):
    put(folder, CONTENT)
    with pytest.raises(WeightsError, match=OTHER_SHA256):
        fetch(replace(OFFLINE, sha256=None), sha256=OTHER_SHA256)
    assert known_sha256(replace(OFFLINE, sha256=None)) is None


def test_a_given_hash_may_not_contradict_a_published_or_recorded_one(folder: Path):
    put(folder, CONTENT)
    with pytest.raises(WeightsError, match=r"--sha256 must be .* published; found"):
        fetch(OFFLINE, sha256=OTHER_SHA256)
    unknown = replace(OFFLINE, sha256=None)
    fetch(unknown, sha256=SHA256)
    with pytest.raises(
        WeightsError, match=r"--sha256 must be .* recorded in .*recorded_sha256\.json"
    ):
        fetch(unknown, sha256=OTHER_SHA256)


def test_a_hash_must_be_a_sha256():
    with pytest.raises(UsageError, match="64 hexadecimal digits; found 'abc'"):
        fetch(OFFLINE, sha256="abc")


@pytest.mark.parametrize("content", ["not JSON", "[]"])
def test_an_unreadable_record_is_named(folder: Path, content: str):
    folder.mkdir()
    (folder / "recorded_sha256.json").write_text(content, encoding="utf-8")
    with pytest.raises(WeightsError, match=r"recorded_sha256\.json: .*Delete it"):
        known_sha256(replace(OFFLINE, sha256=None))
