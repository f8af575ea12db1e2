"""What tests of pages share: hostile names, a parser, and a headless browser."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
from PIL import Image

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egpj.exe\u2028&amp;"
# A locale may be unable to write one of these signs in a file name.
HOSTILE_FILE = (
    "<img src=x onerror='alert(3)'>\u202e\"&.nii.gz"
    .encode(sys.getfilesystemencoding(), "ignore").decode(sys.getfilesystemencoding())
)  # fmt: skip
VOID = {"meta", "link", "img", "input", "br"}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
NO_CHROMIUM = "no Chromium on the PATH (Debian: apt-get install chromium)"


class Page(HTMLParser):
    """What a page is made of: every element with its attributes, and what is left open."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in self.raw:
            self.raw[tag].append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]][-1] += data

    def attributes(self, name):
        return [found[name] for _, found in self.elements if name in found]

    def tagged(self, tag):
        return [found for name, found in self.elements if name == tag]


def text_of(page):
    """The words of a page as a reader sees them, with single spaces."""
    page = re.sub(r"<(script|style)>.*?</\1>", " ", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
NO_GL = ("--disable-gpu", "--disable-3d-apis")
"""Options of Chromium: WebGL2 on the processor, and none."""


WATCH = """
const violations = [];
const broken = [];
addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective));
addEventListener("error", (e) => broken.push(String(e.message)));
addEventListener("unhandledrejection", (e) => broken.push(String(e.reason)));
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const report = (found) => {
  found.requests = performance.getEntriesByType("resource")
    .map((e) => e.name).filter((name) => !name.startsWith("data:"));
  found.violations = violations;
  found.broken = broken;
  const pre = document.createElement("pre");
  pre.id = "findings";
  pre.textContent = JSON.stringify(found);
  document.body.append(pre);
};
"""


def browse(text, folder, script, *options):
    """Open a page with a self-test in headless Chromium: its findings, and what it logged.

    The script calls `report(found)` when it is done. Errors, breaches of the policy and requests
    are added to what it found.
    """
    script = WATCH + script
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    file = folder / "page.html"
    # The last one: a script may hold the words too.
    before, _, after = text.rpartition("</body>")
    file.write_text(f"{before}<script>{script}</script></body>{after}", encoding="utf-8")
    result = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-extensions",
         "--no-first-run", "--disable-background-networking", "--proxy-server=127.0.0.1:9",
         f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
         "--virtual-time-budget=60000", "--dump-dom", *options, file.as_uri()],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "HOME": str(folder)}, encoding="utf-8", errors="replace"
    )  # fmt: skip
    written = re.search(r'<pre id="findings">(.*?)</pre>', result.stdout, re.S)
    assert written is not None, result.stderr[-2000:]
    console = [line for line in result.stderr.splitlines() if ":CONSOLE" in line]
    return json.loads(html.unescape(written[1])), console


def pixels(uri):
    """A picture in a page, decoded by Pillow."""
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def voxels(found):
    """The volume of a mosaic as [x, y, z]."""
    sheet = pixels(found["mosaic"])
    d, h, w = map(int, found["shape"].split(","))
    columns = found["columns"]
    slices = [
        sheet[
            h * (z // columns) : h * (z // columns + 1), d * (z % columns) : d * (z % columns + 1)
        ]
        for z in range(w)
    ]
    return np.stack([s[::-1].T for s in slices], axis=-1)
