"""A reader without a browser, for tests with a server of its own process."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time

from synthbench.readers.server import CHECK


class Reader:
    """A connection with the cookie of a reader; a context manager."""

    def __init__(self, port, link):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.cookie = ""
        reply, _ = self.ask("GET", link.partition(f":{port}")[2])
        self.cookie = reply.headers["set-cookie"].partition(";")[0]
        self.state = self.fetched()

    def ask(self, method, path, body=None, **headers):
        """Return a reply and its body."""
        if self.cookie:
            headers["cookie"] = self.cookie
        self.connection.request(method, path, body=body, headers=headers)
        reply = self.connection.getresponse()
        return reply, reply.read()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.connection.close()

    def fetched(self):
        """Return what the server asks now."""
        return json.loads(self.ask("GET", "/state")[1])

    def volumes(self):
        """Return the volumes of the current trial."""
        trial = self.state["trial"]
        return [
            self.ask("GET", f"/volume/{trial['trial']}/{place}")[1]
            for place in range(2 if trial["kind"] == "2afc" else 1)
        ]

    def answer(self):
        """Answer the current trial; return its name."""
        trial = self.state["trial"]
        given = {"trial": trial["trial"], "seconds": 1.0}
        if trial["kind"] == "2afc":
            given["choice"] = "left"
        else:
            given["levels"] = {item["key"]: 1 for item in self.state["items"]}
        headers = {"content-type": "application/json", CHECK: self.state["check"]}
        reply, body = self.ask("POST", "/answer", json.dumps(given), **headers)
        assert reply.status == 200, body
        self.state = json.loads(body)
        return trial["trial"]


def served(folder, port):
    """Start a server in a process of its own; return it and the readers' links."""
    command = [sys.executable, "-m", "synthbench", "readers", "serve", str(folder),
               "--port", str(port), "--json"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
    )
    assert process.stdout is not None
    text = ""
    while not text.rstrip().endswith("}\n}"):
        line = process.stdout.readline()
        assert line, "the server ended"
        text += line
    process.stdout.close()
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            break
    return process, json.loads(text)["links"]
