"""Load study: how fast is the server of a reader study with many readers at once?

Usage: python studies/readers_load.py --readers 20 --trials 10 --pause 1

Makes a study of noise on a grid of 91 x 109 x 91 voxels, serves it in a process of its own, and
lets all readers look and answer at once. Prints the time of each
kind of request at the median and at the 95th percentile, and counts the answers in the files. The
readers run on the same machine: set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from synthbench.cohorts.reading import read_cohort
from synthbench.readers.build import Cohorts, Making, build
from synthbench.readers.design import Settings
from synthbench.readers.server import CHECK
from synthbench.readers.study import answers_file

SHAPE = (91, 109, 91)
PORT = 8799


def make(folder: Path, readers: int, trials: int) -> None:
    """Write a study of comparisons."""
    rng = np.random.default_rng(0)

    def noise(n: int) -> list[np.ndarray]:
        return [rng.uniform(0.1, 1, SHAPE).astype(np.float32) for _ in range(n)]

    real, synth = (read_cohort(noise(trials), assume_grid=2.0) for _ in range(2))
    design = Settings(
        design="2afc", readers=readers, cases=trials, controls=0, practice=0, repeats=0
    )
    build(folder, Cohorts(real, {"noise": synth}), Making(design, 0))


def look(port: int, link: str, pause: float, times: dict[str, list[float]]) -> None:
    """Answer all trials of a reader, and keep the seconds of each request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    cookie = {}

    def ask(kind: str, method: str, path: str, body: str | None = None, **more: str) -> bytes:
        began = time.perf_counter()
        connection.request(method, path, body=body, headers={**cookie, **more})
        reply = connection.getresponse()
        content = reply.read()
        times[kind].append(time.perf_counter() - began)
        if kind == "enter":
            cookie["cookie"] = reply.headers["set-cookie"].partition(";")[0]
        elif reply.status != 200:
            raise RuntimeError(f"{path}: {reply.status} {content[:100]!r}")
        return content

    ask("enter", "GET", link.partition(f":{port}")[2])
    ask("page", "GET", "/")
    state = json.loads(ask("state", "GET", "/state"))
    while state["trial"]:
        name = state["trial"]["trial"]
        for place in (0, 1):
            ask("volume", "GET", f"/volume/{name}/{place}")
        time.sleep(pause)
        answer = json.dumps({"trial": name, "choice": "left", "seconds": 1.0})
        headers = {"content-type": "application/json", CHECK: state["check"]}
        state = json.loads(ask("answer", "POST", "/answer", answer, **headers))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--readers", type=int, default=20)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between look and answer")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "study"
        make(folder, chosen.readers, chosen.trials)
        server = subprocess.Popen(
            [sys.executable, "-m", "synthbench", "readers", "serve", str(folder),
             "--port", str(PORT), "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8",
        )  # fmt: skip
        try:
            assert server.stdout is not None
            text = ""
            while not text.rstrip().endswith("}\n}"):
                text += server.stdout.readline()
            time.sleep(2)
            times: dict[str, list[float]] = {
                k: [] for k in ("enter", "page", "state", "volume", "answer")
            }
            threads = [
                threading.Thread(target=look, args=(PORT, link, chosen.pause, times))
                for link in json.loads(text)["links"].values()
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            server.terminate()
            server.wait()
        written = [
            len(answers_file(folder, f"reader-{i + 1}").read_bytes().splitlines())
            for i in range(chosen.readers)
        ]
    print("| request | n | median, ms | 95%, ms |\n|---|---|---|---|")
    for kind, seconds in times.items():
        middle, high = 1000 * np.quantile(seconds, (0.5, 0.95))
        print(f"| {kind} | {len(seconds)} | {middle:.0f} | {high:.0f} |")
    print(f"answers in the files: {sum(written)} of {chosen.readers * chosen.trials}")


if __name__ == "__main__":
    main()
