"""A headless Chromium that presses keys as a person does, over the pipe of its DevTools.

Keys come from outside of the page, so the page is the one that a reader gets, without a script of
the test in it. All requests of the browser's pages are recorded, with the bodies of the answers.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import subprocess
import time
from typing import Any

from tests.report.pages import CHROMIUM

WAIT = 60.0


class Browser:
    """One page in a browser of its own; a context manager. A small window is drawn sooner."""

    def __init__(self, profile, *options, size=(500, 400)):
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def pipes():  # DevTools reads descriptor 3 and writes 4
            held = os.dup(to_browser), os.dup(from_browser)
            os.dup2(held[0], 3)
            os.dup2(held[1], 4)

        self.process = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-extensions", "--no-first-run",
             "--disable-background-networking", "--proxy-server=127.0.0.1:9",
             "--remote-debugging-pipe", f"--user-data-dir={profile}",
             f"--window-size={size[0]},{size[1]}", *options, "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False,
            preexec_fn=pipes, start_new_session=True, env={**os.environ, "HOME": str(profile)},
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._held, self._number = b"", 0
        self.requests: list[str] = []
        self.replies: dict[str, dict[str, Any]] = {}  # by their ids
        self.broken: list[str] = []
        target = self._first_page()
        found = self.send("Target.attachToTarget", targetId=target, flatten=True, session=None)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")

    _session: str | None = None

    def _first_page(self):
        while True:
            found = self.send("Target.getTargets", session=None)["targetInfos"]
            pages = [one["targetId"] for one in found if one["type"] == "page"]
            if pages:
                return pages[0]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.kill()

    def kill(self):
        """End the browser and all its processes by SIGKILL."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            os.close(self._read)
            os.close(self._write)

    def send(self, method, session="", **parameters) -> dict[str, Any]:
        """Send a command of the DevTools protocol and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None and self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + WAIT
        while True:
            found = self._message(end)
            if found.get("id") == self._number:
                assert "error" not in found, (method, found["error"])
                result: dict[str, Any] = found["result"]
                return result

    def _message(self, end) -> dict[str, Any]:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser says nothing"
            piece = os.read(self._read, 2**16)
            assert piece, "the browser ended"
            self._held += piece
        first, _, self._held = self._held.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        self._noted(message.get("method"), message.get("params", {}))
        return message

    def _noted(self, method, fields):
        if method == "Network.requestWillBeSent":
            self.requests.append(fields["request"]["url"])
        elif method == "Network.responseReceived":
            self.replies[fields["requestId"]] = fields["response"]
        elif method == "Runtime.exceptionThrown":
            self.broken.append(fields["exceptionDetails"]["text"])

    def open(self, address):
        """Open a page."""
        self.send("Page.navigate", url=address)

    def value(self, script):
        """Return the value of an expression in the page."""
        found = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script):
        """Wait until an expression in the page is true."""
        end = time.monotonic() + WAIT
        while not self.value(f"Boolean({script})"):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)

    def press(self, *keys):
        """Press keys one after the other, as trusted events of a keyboard."""
        for key in keys:
            text = {"text": key} if len(key) == 1 else {}
            self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def received(self):
        """Return the address, the headers and the body of every reply of a server."""
        return [
            (reply["url"], reply["headers"], self._body(number))
            for number, reply in self.replies.items()
            if reply["url"].startswith("http")
        ]

    def _body(self, number) -> bytes:
        found = self.send("Network.getResponseBody", requestId=number)
        body = found["body"]
        return base64.b64decode(body) if found["base64Encoded"] else body.encode()

    def screenshot(self) -> bytes:
        """Return the window as PNG."""
        return base64.b64decode(self.send("Page.captureScreenshot")["data"])
