"""Commands that are killed at random moments, and repeated: what differs from an undisturbed run.

`make chaos` runs all of it (`python -m tests.chaos.kills`) and prints the table of docs/chaos.md;
`test_kills.py` runs a small part. Each command is a forked process, so that a hundred kills take
minutes: a server process imports what is heavy once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from synthbench.runs.seal import SEAL

PATIENCE = 600.0  # seconds after which a command is taken to hang
NO_WEIGHTS = "--extractor random-resnet10 --metric mmd2 --metric coverage"
PRELOADED = ["tests.chaos.preloaded"]
fork_server = get_context("forkserver")
fork_server.set_forkserver_preload(PRELOADED)


@dataclass(frozen=True)
class Case:
    """A command whose output is compared.

    Attributes
    ----------
    command
        What is typed after `synthbench`; OUT is its output, in a folder of its own.
    kills
        How often it is killed when all is run; each kill is followed by a repetition.
    again
        What is typed to go on, where that is another command and `config.yaml` is there.
    before
        Commands that make something in the folder first, and are not killed.
    """

    command: str
    kills: int
    again: str = ""
    before: tuple[str, ...] = ()


_LEADERBOARD = "benchmark init OUT --folder . --real {real} --m 4 --extractor voxels --metric mmd2"
_ENTRY = (
    "score --benchmark OUT --real {real} --synth {synth} --no-cache --out OUT/entries/mine.json"
)

CASES: Mapping[str, Case] = {
    "data atlas": Case("data atlas --n 4 --shape 16 20 16 --labels --out OUT", 10),
    "data split": Case("data split {real} --repeat 3 --out OUT", 10),
    "data select": Case("data select {real} --out OUT.tsv", 4),
    "data info": Case("data info {real} --out OUT", 4),
    "data prepare": Case("prepare-coarsely {heads} OUT", 6),
    "train (pca-gaussian)": Case(
        "train pca-gaussian --real {real} --out OUT", 10, again="train --resume --out OUT"
    ),
    "train (ddpm3d)": Case(
        "train ddpm3d --real {real} --out OUT --preset tiny --set steps=6 --set "
        "checkpoint_every=2 --set warmup_steps=0 --set sampler_steps=2 --set diversity_every=0",
        8,
        again="train --resume --out OUT",
    ),
    "sample": Case("sample {run} --n 4 --out OUT", 5),
    "sample (shards)": Case("sample {run} --n 6 --shards 2 --out OUT", 5),
    "sweep": Case(
        "sweep {conditional} --vary ventricle_volume=0:1:3 --measure dark:0 --out OUT", 5
    ),
    "import": Case("import {real} --out OUT --name other", 6),
    "score": Case(
        f"score --real {{real}} --synth {{synth}} --no-cache --resamples 100 {NO_WEIGHTS} "
        "--out OUT.json --features OUT.npz --sample-data OUT-data.npz",
        6,
    ),
    "sensitivity": Case(
        f"sensitivity --real {{real}} {NO_WEIGHTS} --corruption flip --out OUT.json", 3
    ),
    "utility": Case(
        "utility --real {real} --synth {synth} --test {test} --label sex --extractor voxels "
        "--synth-labels {labels} --ratios 1 --no-cache --out OUT.json",
        3,
    ),
    "benchmark init": Case(_LEADERBOARD, 3),
    "leaderboard": Case("leaderboard OUT", 4, before=(_LEADERBOARD, _ENTRY)),
    "report": Case("report {card} --out OUT.html", 4),
    "drift": Case("drift {card} {card} --junit OUT.xml", 2),
    "demo": Case("small-demo OUT", 2),
}
"""Together 100 kills."""

QUICK = {"data split": 3, "train (pca-gaussian)": 2, "sample": 2, "import": 2}
"""How often `--quick` kills."""


# ---------------------------------------------------------------- one process


def session(command: Sequence[str], folder: Path, said: Path) -> None:
    """Run a command in a folder, as a forked process; what it says goes to a file."""
    from tests.chaos import preloaded

    with said.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.chdir(folder)
    os.environ["OMP_NUM_THREADS"] = "1"
    preloaded.run(command)


def start(command: str, folder: Path) -> BaseProcess:
    """Start a command in a folder."""
    words = [word.replace("OUT", "out") for word in command.split()]
    said = folder.with_name(f"{folder.name}.said")
    process = fork_server.Process(target=session, args=(words, folder, said))
    process.start()
    return process


def ended(process: BaseProcess, folder: Path) -> int:
    """Wait for a command; return its exit code. What it said is in FOLDER.said."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"{folder}: hangs")
    return process.exitcode


def said(folder: Path) -> str:
    """Return what the last command in a folder said."""
    return folder.with_name(f"{folder.name}.said").read_text(errors="replace")


def complete(command: str, folder: Path) -> float:
    """Run a command to its end, and return the seconds that it took."""
    folder.mkdir(exist_ok=True)
    began = time.monotonic()
    code = ended(start(command, folder), folder)
    assert code == 0, f"{command}: exit {code}: {said(folder)}"
    return time.monotonic() - began


# ---------------------------------------------------------------- what is compared

Content = dict[str, tuple[str, ...]]
"""By file: the sha256 of each of its lines."""


def content(folder: Path) -> Content:
    """Return the lines of all files below a folder, as hashes."""
    return {
        file.relative_to(folder).as_posix(): tuple(map(_hashed, _lines(file)))
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


_TIME = re.compile(rb"\b(from \d[\d.e-]* to )?\d[\d.e-]* (s|min|h)\b")
_TIMED_IN_SEAL = re.compile(rb'("[^"/]*\.(json|tar)":)"[0-9a-f]{64}"')


def _lines(file: Path) -> list[bytes]:
    """Return a file's lines, without what must differ in several lines or columns.

    These are seconds, and which scans an earlier call had prepared (`kept`). The lines of a tar
    file are those of its members, because the length of a member depends on the digits of seconds.
    """
    if file.suffix != ".tar":
        return _lines_of(file.name, file.read_bytes())
    lines = []
    with tarfile.open(file) as shard:
        for member in shard:
            held = shard.extractfile(member)
            assert held is not None
            about = [member.name, member.mtime, member.mode, member.uid, member.gid]
            lines += [repr(about).encode(), *_lines_of(member.name, held.read())]
    return lines


def _lines_of(name: str, content: bytes) -> list[bytes]:
    text = re.sub(rb'"seconds": \{[^}]*\}', b"", content)
    if name == SEAL:
        # A sidecar says how long its volume took. When that is short, two undisturbed runs may
        # write the same digits by chance, and a third run others.
        text = _TIMED_IN_SEAL.sub(rb"\1", text)
    lines = text.split(b"\n")
    if not name.endswith(".tsv"):
        return lines
    names = lines[0].split(b"\t")
    left_out = {i for i, one in enumerate(names) if b"seconds" in one or one == b"kept"}
    rows = [line.split(b"\t") for line in lines]
    return [b"\t".join(cell for i, cell in enumerate(row) if i not in left_out) for row in rows]


def _hashed(line: bytes) -> str:
    # How long it took may be the same twice by chance, when it is short; so may the hash of a card
    # that says how long it took.
    if b"seconds" in line:
        return "seconds"
    if b"sha256 of the text above" in line:
        return "sha256"
    return hashlib.sha256(_TIME.sub(b"time", line)).hexdigest()


@dataclass(frozen=True)
class Reference:
    """Two undisturbed runs of a command.

    Attributes
    ----------
    content
        What the first one wrote.
    varying
        Per file, the lines in which the second differs: seconds and dates. None: the number of
        lines differs.
    seconds
        From the second one's start to its end.
    """

    content: Content
    varying: Mapping[str, frozenset[int] | None]
    seconds: float

    @classmethod
    def of(cls, case: Case, folder: Path) -> Reference:
        """Run a command twice, in folders of one name: a report may name its folder."""
        found, seconds = [], 0.0
        for number in range(2):
            there = folder / f"undisturbed-{number}" / "work"
            prepare(case, there)
            seconds = complete(case.command, there)
            found.append(content(there))
        one, other = found
        assert set(one) == set(other), set(one) ^ set(other)
        varying = {name: _varying(lines, other[name]) for name, lines in one.items()}
        return cls(one, varying, seconds)

    def differences(self, found: Content) -> list[str]:
        """Return the files that are missing or differ, in lines that are the same in both runs."""
        missing = [f"{name} is missing" for name in self.content if name not in found]
        return missing + [
            f"{name} differs"
            for name, lines in self.content.items()
            if name in found and not self._equal(name, lines, found[name])
        ]

    def _equal(self, name: str, lines: tuple[str, ...], found: tuple[str, ...]) -> bool:
        skipped = self.varying[name]
        if skipped is None:
            return True
        return len(lines) == len(found) and all(
            one == other or i in skipped
            for i, (one, other) in enumerate(zip(lines, found, strict=True))
        )

    def left_behind(self, found: Content) -> list[str]:
        """Return the files that an undisturbed run does not leave."""
        return [name for name in found if name not in self.content]


def _varying(one: tuple[str, ...], other: tuple[str, ...]) -> frozenset[int] | None:
    if len(one) != len(other):
        return None
    return frozenset(i for i, pair in enumerate(zip(one, other, strict=True)) if len(set(pair)) > 1)


def prepare(case: Case, folder: Path) -> None:
    """Make the folder that a command runs in, with what it needs there."""
    folder.mkdir(parents=True)
    for command in case.before:
        complete(command, folder)


@dataclass(frozen=True)
class Outcome:
    """What kills did to a command.

    Attributes
    ----------
    kills, at_work
        How many, and how many of them found the command at work: others came after its end.
    unequal, leftovers
        Differences from the undisturbed run after the repetition, and files that it does not leave.
    seconds
        Time of an undisturbed run.
    """

    kills: int
    at_work: int
    unequal: Sequence[str]
    leftovers: Sequence[str]
    seconds: float


def disturbed(case: Case, folder: Path, kills: int, seed: int = 0) -> Outcome:
    """Kill a command at moments uniform over its duration, each time in a new folder, and repeat.

    Each third repetition is killed as well, and repeated.
    """
    reference = Reference.of(case, folder)
    moments = np.random.default_rng(seed)
    done, at_work, number = 0, 0, 0
    unequal, leftovers = [], []
    while done < kills:
        there = folder / f"killed-{number}" / "work"
        number += 1
        prepare(case, there)
        times = 2 if number % 3 == 0 and kills - done > 1 else 1
        for _ in range(times):
            process = start(_next(case, there), there)
            time.sleep(moments.uniform(0, reference.seconds))
            at_work += process.is_alive()
            process.kill()
            process.join()
            done += 1
        code = ended(start(_next(case, there), there), there)
        # A command that was complete when it was killed may refuse to write again.
        if code not in (0, 2) or (code == 2 and "already there" not in said(there)):
            unequal.append(f"exit {code}: {said(there)[-400:]}")
            continue
        found = content(there)
        unequal += reference.differences(found)
        leftovers += reference.left_behind(found)
        shutil.rmtree(there.parent)
    return Outcome(done, at_work, unequal, leftovers, reference.seconds)


def _next(case: Case, folder: Path) -> str:
    """Return the command to type: to go on, where there is something to go on with."""
    return case.again if case.again and (folder / "out" / "config.yaml").is_file() else case.command


# ---------------------------------------------------------------- inputs


def inputs(folder: Path, names: Sequence[str], *, quick: bool = False) -> dict[str, str]:
    """Write what the commands of these cases read; return the paths by name.

    `quick`: the cohort is made of spheres, not simulated from the template.
    """
    chosen = [CASES[name] for name in names]
    needed = " ".join(command for case in chosen for command in (case.command, *case.before))
    paths = {
        name: str(folder / name)
        for name in ("real", "test", "synth", "run", "conditional", "heads", "labels", "card")
    }
    folder.mkdir(parents=True, exist_ok=True)
    simulated = "data atlas --n 12 --shape 16 20 16 --seed 1 --out real"
    complete("write-cohort real" if quick else simulated, folder)
    if any(f"{{{name}}}" in needed for name in ("run", "synth", "card", "labels")):
        complete("train pca-gaussian --real real --out run", folder)
        complete("sample run --n 8 --out synth", folder)
    if "{labels}" in needed:
        complete("data atlas --n 8 --shape 16 20 16 --seed 2 --out test", folder)
        rows = [f"synth-{i:06d}.nii.gz\t{'FM'[i % 2]}" for i in range(8)]
        Path(paths["labels"]).write_text("\n".join(["file\tsex", *rows]) + "\n", encoding="utf-8")
    if "{card}" in needed:
        score = CASES["score"].command.replace("OUT.json", "card")
        complete(score.partition(" --features")[0].format(**paths), folder)
    if "{conditional}" in needed:
        complete("write-conditional-run conditional", folder)
    if "{heads}" in needed:
        complete("write-heads heads", folder)
    return paths


def kill_all(
    folder: Path, kills: Mapping[str, int], seed: int, *, quick: bool
) -> dict[str, Outcome]:
    """Kill each of these commands so often, and return the outcomes by case."""
    paths = inputs(folder / "inputs", list(kills), quick=quick)
    outcomes = {}
    for name, number in kills.items():
        case = CASES[name]
        before = tuple(command.format(**paths) for command in case.before)
        filled = Case(case.command.format(**paths), number, case.again, before)
        where = folder / name.replace(" ", "-")
        outcomes[name] = disturbed(filled, where, number, seed)
        print(_row(name, outcomes[name]), flush=True)
    return outcomes


def _row(name: str, found: Outcome) -> str:
    equal = "yes" if not found.unequal else f"no: {'; '.join(sorted(set(found.unequal)))}"
    left = ", ".join(sorted(set(found.leftovers))) or "none"
    return f"| {name} | {found.seconds:.1f} | {found.kills} | {found.at_work} | {equal} | {left} |"


def main() -> None:
    """Run all kills, print the table, and exit 1 where a result differs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", action="append", choices=list(CASES), help="may be repeated")
    arguments.add_argument("--quick", action="store_true", help="a few kills of a few commands")
    given = arguments.parse_args()
    os.environ["CHAOS_TEMPLATE"] = "" if given.quick else "yes"  # see tests.chaos.preloaded
    print("| command | seconds | kills | at work | rerun equal | left behind |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        every = {name: CASES[name].kills for name in given.only or CASES}
        chosen = QUICK if given.quick else every
        found = kill_all(Path(folder), chosen, given.seed, quick=given.quick)
    kills, at_work = (sum(getattr(one, f) for one in found.values()) for f in ("kills", "at_work"))
    print(f"| all | | {kills} | {at_work} | | |")
    sys.exit(any(one.unequal or one.leftovers for one in found.values()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
