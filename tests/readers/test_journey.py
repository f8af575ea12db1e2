"""A study of 12 cases on the embedded cohort, read in a browser whose keys a script presses.

Server and browser are processes of their own. Both are killed while somebody answers.
"""

from __future__ import annotations

import io
import json
import socket
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image

from synthbench.cohorts.reading import read_cohort
from synthbench.readers.analysis import analyse
from synthbench.readers.build import Cohorts, Making, build
from synthbench.readers.design import Settings
from synthbench.readers.study import answers_file, read_key, read_study
from synthbench.sampling.sampling import sample
from synthbench.simulation.cohort import atlas_cohort
from synthbench.training.training import train
from tests.readers.browser import Browser
from tests.readers.client import served
from tests.report.pages import CHROMIUM, NO_CHROMIUM, NO_GL, SOFTWARE_GL

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason=NO_CHROMIUM)]

GENERATORS = ("pca-gaussian", "mixup")
SHAPE = (24, 28, 24)
CASES = 12
READY = "typeof at === 'function' && asked && given && clock.since && !busy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """6 pairs of each generator and one of practice, for two readers."""
    root = tmp_path_factory.mktemp("journey")
    training = atlas_cohort(4, root / "training", seed=1, shape=SHAPE)
    real = atlas_cohort(CASES + 2, root / "real", seed=2, shape=SHAPE)
    for name in GENERATORS:
        run = train(name, out=root / name, real=training,
                    overrides=[f"space.shape={list(SHAPE)}"])  # fmt: skip
        sample(run, CASES // 2, root / "synth" / name)
    synth = {name: read_cohort(root / "synth" / name) for name in GENERATORS}
    settings = Settings(
        design="2afc", readers=2, cases=CASES // 2, controls=0, practice=1, repeats=0
    )
    build(root / "study", Cohorts(read_cohort(real), synth), Making(settings, seed=3))
    return root / "study"


class Session:
    """A reader at her browser."""

    def __init__(self, profile, link, *options):
        self.browser = Browser(profile, *options)
        self.browser.open(link)
        self.browser.until(READY)

    @property
    def done(self):
        return self.browser.value("asked.done")

    def answer(self, key):
        done = self.done
        self.browser.press(key, "Enter")
        self.browser.until(f"asked.done > {done} && !busy")
        return {"1": "left", "2": "right"}[key]

    def picture(self):
        """The window, drawn anew."""
        self.browser.value("new Promise((done) => requestAnimationFrame(() => done(1)))")
        return np.array(Image.open(io.BytesIO(self.browser.screenshot())).convert("L"))

    def place(self):
        return self.browser.value("[view.sagittal, view.coronal, view.axial]")


def test_answers_survive_the_kill_of_server_and_browser_and_nothing_tells(folder, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process, links = served(folder, port)
    sessions = []

    def session(profile, reader, *options):
        sessions.append(Session(tmp_path / profile, links[reader], *options))
        return sessions[-1]

    try:
        first = session("one", "reader-1", *SOFTWARE_GL)
        planes_move(first)
        said = [first.answer(key) for key in "121"]
        second = session("two", "reader-2", *NO_GL)
        second.answer("1")

        first.browser.press("2")
        process.kill()  # SIGKILL
        process.wait()
        first.browser.press("Enter")
        first.browser.until("at('words').textContent.startsWith('Not saved') && !busy")
        assert first.done == 3
        process, again = served(folder, port)
        assert again == links
        first.browser.press("Enter")  # the answer is still there
        first.browser.until("asked.done === 4 && !busy")
        said.append("right")
        assert second.done == 1
        second.answer("2")

        first.browser.press("1")
        nothing_tells(folder, first.browser, port)
        for one in (first, second):
            one.browser.kill()  # SIGKILL, with an answer typed and not sent
        first = session("three", "reader-1", *NO_GL)
        second = session("four", "reader-2", *NO_GL)
        assert (first.done, second.done) == (4, 2)
        assert first.browser.value("given.choice") is None
        said += [first.answer(key) for key in ("2" if i % 3 else "1" for i in range(CASES - 3))]
        second.answer("1")
        assert first.browser.value("at('question').textContent").startswith("That was all")
        for one in (first, second):
            nothing_tells(folder, one.browser, port)
    finally:
        for one in sessions:
            one.browser.kill()
        process.kill()
        process.wait()

    lines = answers_file(folder, "reader-1").read_text(encoding="utf-8").splitlines()
    plan, _ = read_study(folder)
    assert [(line["trial"], line["choice"]) for line in map(json.loads, lines)] == list(
        zip((trial.trial for trial in plan.readers["reader-1"]), said, strict=True)
    )
    found = analyse(folder)
    assert [found.readers[name].answered for name in plan.readers] == [CASES, 2]
    assert [one.group for one in found.compared] == list(GENERATORS)


def planes_move(one):
    """Each arrow moves one plane by one voxel and draws another picture, brains and all."""
    assert one.browser.value("deep")
    before, (x, y, z) = one.picture(), one.place()
    assert before.std() > 10
    for key, place in (("ArrowRight", [x + 1, y, z]), ("ArrowUp", [x + 1, y + 1, z]),
                       ("PageDown", [x + 1, y + 1, z - 1])):  # fmt: skip
        one.browser.press(key)
        assert one.place() == place
        after = one.picture()
        assert (after != before).mean() > 0.001
        before = after


def nothing_tells(folder, browser, port):
    """No request leaves the machine, and nothing that comes or lies here tells what is real."""
    plan, _ = read_study(folder)
    key = read_key(folder, plan)
    here = f"http://127.0.0.1:{port}/"
    assert all(address.startswith((here, "data:", "blob:")) for address in browser.requests)
    assert browser.broken == []
    secrets = {*GENERATORS, *key.cases, *(case.volume for case in key.cases.values()),
               "training", str(folder), "blurred", "memorizer"}  # fmt: skip
    volumes, replies = [], browser.received()
    for address, headers, body in replies:
        kind = urlparse(address).path.split("/")[1]
        fixed = {name: value for name, value in headers.items() if name != "content-length"}
        if kind == "volume":
            volumes.append((len(body), tuple(sorted(fixed.items()))))
        elif kind:  # not the page, which is the same for all studies and has words of its own
            assert not [word for word in secrets if word.encode() in body], (address, body)
        assert not [word for word in secrets if word in str(headers)]
    assert len(volumes) > 1
    assert len(set(volumes)) == 1
    assert volumes[0][0] == np.prod(SHAPE)
    text = browser.value("document.body.innerText")
    assert not [word for word in secrets if word in text]

    files = sorted((folder / "cases").iterdir())
    about = {(f.stat().st_size, f.stat().st_mtime, f.stat().st_mode, f.read_bytes()[:352])
             for f in files}  # fmt: skip
    assert len(files) == len(key.cases)
    assert len(about) == 1
    plan_text = (folder / "study.json").read_text(encoding="utf-8")
    told = {*GENERATORS, *(case.volume for case in key.cases.values())}
    assert not [word for word in told if word in plan_text]
