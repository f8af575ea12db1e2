"""The page in a headless browser: a reader presses keys, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import socket
import subprocess
import threading
import time

import pytest
import uvicorn

from synthbench.readers import server
from synthbench.readers.offline import collect, export
from synthbench.readers.page import page
from synthbench.readers.sessions import Sessions, access
from synthbench.readers.study import answers_file, read_study
from tests.readers.small import SHAPE, study
from tests.report.pages import CHROMIUM, NO_CHROMIUM, NO_GL, WATCH, browse

PAGE = page()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)]

KEYS = """
const until = async (ready) => {
  for (let i = 0; i < 1500 && !ready(); i++) await pause(20);
  await pause(30);
};
const press = (key) => document.body.dispatchEvent(
  new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const done = () => Number(at("progress").value);
const canvas = () => at("screen-0").querySelector("canvas");
const picture = () => canvas().toDataURL();
addEventListener("load", async () => {
  const found = { deep };
  await until(() => view && given && clock.since);
  await pause(300);
  const before = picture();
  const places = () => [view.sagittal, view.coronal, view.axial];
  found.start = places();
  for (const key of ["ArrowRight", "ArrowUp", "PageDown"]) press(key);
  await pause(50);
  found.moved = places();
  found.redrawn = picture() !== before;
  found.voxels = views[0].volume.voxels.length;
  for (const key of ["]", "}", "{", "{", "+", "v"]) press(key);
  found.view = { ...view };
  press("r");
  found.reset = { ...view };
  press("Enter");
  await pause(50);
  found.missing = at("words").textContent;
  press("p");
  found.paused = !at("pause").hidden;
  press("1");
  found.deaf = asked.trial.kind === "2afc" ? given.choice : { ...given.levels };
  press("p");
  found.kinds = [];
  found.unseen = 0;
  while (asked.trial && done() < STOP) {
    const count = done();
    found.kinds.push(asked.trial.kind);
    if (asked.trial.kind === "2afc") press("2");
    else for (const item of asked.items) {
      const now = at("items").querySelector(".current").getBoundingClientRect();
      const over = canvas().getBoundingClientRect();
      if (now.top < over.bottom - 1 || now.bottom > innerHeight + 1 || over.top < -1) {
        found.unseen += 1;
      }
      press(String(item.levels.length));
    }
    found.text = document.body.innerText;
    press("Enter");
    await until(() => done() > count && !busy);
  }
  if (UNDO) {
    press("u");
    await until(() => done() < STOP && !busy);
  }
  found.done = done();
  found.question = at("question").textContent;
  found.stored = Object.values(localStorage).map((text) => JSON.parse(text));
  report(found);
});
"""


@pytest.fixture
def folder(tmp_path):
    study(tmp_path / "study", readers=2, repeats=0, controls=1, practice=1, cases=2)
    return tmp_path / "study"


def visit(folder, monkeypatch, profile, reader, *options, stop=99, undo=False):
    """Serve the study, and open a reader's link in a browser whose page presses the keys."""
    script = WATCH + KEYS.replace("STOP", str(stop)).replace("UNDO", json.dumps(undo))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text, rules = PAGE
    before, _, after = text.rpartition("</body>")
    tested = f"{before}<script>{script}</script></body>{after}"
    rules = rules.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    monkeypatch.setattr(server, "page", lambda: (tested, rules))
    plan, scales = read_study(folder)
    tokens = access(folder, plan)
    app = server.application(Sessions(folder, plan, scales, tokens), server.LOOPBACK)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        while not running.started:
            time.sleep(0.02)
        try:
            return opened(server.link("127.0.0.1", port, tokens.tokens[reader]), profile, options)
        finally:
            running.should_exit = True
            thread.join()


def opened(address, profile, options):
    """Open an address; another proxy than the loopback's own is a closed door."""
    result = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-extensions", "--no-first-run",
         "--disable-background-networking", "--proxy-server=127.0.0.1:9",
         f"--user-data-dir={profile}", "--enable-logging=stderr", "--virtual-time-budget=60000",
         "--dump-dom", *options, address],
        capture_output=True, text=True, check=False, timeout=180, encoding="utf-8",
        errors="replace", env={**os.environ, "HOME": str(profile)},
    )  # fmt: skip
    written = re.search(r'<pre id="findings">(.*?)</pre>', result.stdout, re.S)
    assert written is not None, result.stderr[-2000:]
    return json.loads(html.unescape(written[1]))


def test_a_reader_does_everything_by_keyboard(folder, tmp_path, monkeypatch):
    """Without WebGL, which is sooner; `test_journey` has it."""
    found = visit(folder, monkeypatch, tmp_path / "one", "reader-1", *NO_GL,
                  "--window-size=800,600", stop=4, undo=True)  # fmt: skip
    assert found["broken"] == found["violations"] == []
    assert all(name.startswith("http://127.0.0.1:") for name in found["requests"])
    assert not found["deep"]
    x, y, z = found["start"]
    assert found["start"] == [side // 2 for side in SHAPE]
    assert found["moved"] == [x + 1, y + 1, z - 1]
    assert found["redrawn"]
    assert found["voxels"] == SHAPE[0] * SHAPE[1] * SHAPE[2]
    assert (found["view"]["low"], found["view"]["high"], found["view"]["zoom"]) == (5, 90, 1.25)
    assert found["view"]["layout"] == 0
    assert (found["reset"]["low"], found["reset"]["layout"]) == (0, 3)
    assert "missing" in found["missing"]
    assert found["paused"]
    assert found["deaf"] == {}
    assert found["unseen"] == 0  # the current question is below the picture, in a small window too
    assert found["kinds"] == ["rating", "2afc", "rating", "rating"]
    for word in ("alpha", "beta", "blurred", "synth"):
        assert word not in found["text"].lower()
    assert found["done"] == 3
    lines = answers_file(folder, "reader-1").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5
    assert json.loads(lines[-1])["undone"]


def test_a_page_without_a_server_keeps_the_answers_in_the_browser(folder, tmp_path):
    (file, _) = export(folder, tmp_path / "pages")
    script = KEYS.replace("STOP", "99").replace("UNDO", "false")
    found, _ = browse(file.read_text(encoding="utf-8"), tmp_path, script, *NO_GL)
    assert found["broken"] == found["violations"] == found["requests"] == []
    assert found["question"].startswith("That was all")
    plan, _ = read_study(folder)
    trials = plan.readers["reader-1"]
    assert found["done"] == len(trials)
    (answers,) = found["stored"]
    assert [answer["trial"] for answer in answers] == [trial.trial for trial in trials]
    fields = {"schema_version": 1, "study": plan.key_sha256, "reader": "reader-1"}
    file = tmp_path / "reader-1.json"
    file.write_text(json.dumps({**fields, "answers": answers}), encoding="utf-8")
    assert collect(folder, [file]) == {"reader-1": len(trials)}
