"""A server that is killed loses no answer that it confirmed."""

from __future__ import annotations

import json
import socket

import pytest

from synthbench.readers.study import answers_file
from tests.readers.client import Reader, served
from tests.readers.small import study

pytestmark = pytest.mark.slow


def test_a_killed_server_has_lost_nothing_and_the_same_link_goes_on(tmp_path):
    folder = tmp_path / "study"
    study(folder, readers=2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process, links = served(folder, port)
    try:
        with Reader(port, links["reader-1"]) as first, Reader(port, links["reader-2"]) as second:
            confirmed = [first.answer() for _ in range(4)]
            second.answer()
            process.kill()  # SIGKILL
            process.wait()
        process, again = served(folder, port)
        assert again == links
        with Reader(port, links["reader-1"]) as first, Reader(port, links["reader-2"]) as second:
            assert first.state["done"] == 4
            confirmed.append(first.answer())
            assert second.state["done"] == 1
    finally:
        process.kill()
        process.wait()
    lines = answers_file(folder, "reader-1").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["trial"] for line in lines] == confirmed
