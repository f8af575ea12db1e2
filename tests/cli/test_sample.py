from __future__ import annotations

import json

import numpy as np

from tests.command_line import run


def test_sample_says_what_to_type_instead(make_cohort, tmp_path):
    assert run("train", "noise", "--real", make_cohort("real", n=4), "--out", "run",
               cwd=tmp_path).returncode == 0  # fmt: skip
    sample = ("sample", "run", "--n", 1, "--out", "synth")
    for extra, words in (
        (("--sampler", "dpm++"), "leave out --sampler and --steps"),
        (("--trajectory", 3), "--trajectory: noise samples in one step"),
    ):
        result = run(*sample, *extra, cwd=tmp_path)
        assert (result.returncode, words in result.stderr) == (2, True), result.stderr
    drawn = run(*sample, cwd=tmp_path)
    assert (drawn.returncode, "1 volume, seed 0, in synth" in drawn.stderr) == (0, True)
    again = run(*sample, "--clean", cwd=tmp_path)
    assert "with no --clean. Use another --out" in again.stderr


def test_samples_are_sealed_resumed_and_verified(make_cohort, tmp_path, monkeypatch):
    """Exit 0 for untouched and signed, 1 for anything else, 2 where there is no seal."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert run("train", "noise", "--real", make_cohort("real", n=4), "--out", "run",
               cwd=tmp_path).returncode == 0  # fmt: skip

    def sample(n, folder="synth"):
        return run("sample", "run", "--n", n, "--out", folder, cwd=tmp_path)

    def verify(*arguments):
        return run("verify", "synth", *arguments, cwd=tmp_path)

    assert verify().returncode == 2
    assert "without a signature" in sample(2).stderr
    unsigned = verify()
    assert (unsigned.returncode, "not signed" in unsigned.stderr) == (1, True)

    assert run("key").returncode == 2
    made = run("key", "--new")
    assert (made.returncode, made.stdout) == (0, run("key").stdout)
    (tmp_path / "maker.pub").write_text(made.stdout)
    assert sample(3).returncode == 0  # a volume is added, and all are signed
    verified = json.loads(verify("--key", "maker.pub", "--json").stdout)
    assert (verified["verified"], verified["files"], verified["own"]) == (True, 7, True)
    assert verify("--key", "SHA256:" + "A" * 43).returncode == 1

    synth = tmp_path / "synth"
    (synth / "synth-000001.nii.gz").write_bytes(b"")
    (synth / "synth-000002.json").unlink()
    changed = verify("--json")
    found = json.loads(changed.stdout)
    assert changed.returncode == 1
    assert found["changed"] == ["synth-000001.nii.gz"]
    assert found["missing"] == ["synth-000002.json"]
    assert "changed: synth-000001.nii.gz" in changed.stderr
    refused = sample(3)
    assert (refused.returncode, "synth-000001.nii.gz" in refused.stderr) == (2, True)
    (synth / "synth-000001.nii.gz").unlink()
    assert sample(3).returncode == 0
    assert verify("--key", "maker.pub").returncode == 0

    # As after a kill: a volume whose sidecar came, and no new seal.
    other = tmp_path / "other"
    sample(4, "other")
    for name in ("synth-000003.nii.gz", "synth-000003.json"):
        (synth / name).write_bytes((other / name).read_bytes())
    assert json.loads(verify("--json").stdout)["added"] == [
        "synth-000003.json", "synth-000003.nii.gz",
    ]  # fmt: skip
    assert sample(4).returncode == 0
    assert verify().returncode == 0


def test_a_watermark_needs_a_key_and_a_fine_grid(make_cohort, tmp_path):
    """Nothing is drawn, and no message shows what was typed as the key."""
    coarse = np.diag([8.0, 8.0, 8.0, 1.0])
    real = make_cohort("real", n=4, affine=coarse)
    assert run("train", "noise", "--real", real, "--out", "run", cwd=tmp_path).returncode == 0
    (tmp_path / "short.txt").write_text("short\n", encoding="utf-8")
    for key, words in (
        ("hunter2", "it has 7 characters, which can be guessed"),
        ("@short.txt", "short.txt (the watermark's key): it has 5 characters"),
        ("@none.txt", "none.txt"),
        ("a key that nobody guesses", "voxels of at most 4.25 mm can carry a mark"),
    ):
        refused = run("sample", "run", "--n", 1, "--out", "s", "--watermark", key, cwd=tmp_path)
        assert (refused.returncode, words in refused.stderr) == (2, True), refused.stderr
        assert key.startswith("@") or key not in refused.stderr
    assert not (tmp_path / "s").exists()


def test_an_unmarked_volume_and_one_without_a_place_are_told_apart(make_cohort, tmp_path):
    """Exit 1: looked for, and not found. Exit 2: it could not be looked for."""
    find = ("watermark", "find", "real", "--key", "a key that nobody guesses")
    make_cohort("real", n=2)
    none = run(*find, cwd=tmp_path)
    assert (none.returncode, "is found in 0 of 2 volumes" in none.stderr) == (1, True), none.stderr
    np.save(tmp_path / "real" / "sub-9.npy", np.ones((8, 8, 8), np.float32))
    assert run(*find, cwd=tmp_path).returncode == 2
    assert run(*find[:3], "--key", "short", cwd=tmp_path).returncode == 2


def test_shards_and_parts_are_drawn_merged_scored_in_parts_and_exported(make_cohort, tmp_path):
    """All verbs of docs/shards.md, on the command line."""
    make_cohort("real", n=6)
    for command in (
        "train noise --real real --out run",
        "sample run --n 6 --shards 2 --shard 1/2 --out parts/1",
        "sample run --n 6 --shards 2 --shard 2/2 --out parts/2",
        "merge parts/1 parts/2 --out synth",
        "verify synth",  # nobody has signed it
        "data export synth --out files",
        "score --real real --synth synth --extractor voxels --shard 1/1 --features f/1.npz",
    ):
        done = run(*command.split(), cwd=tmp_path)
        assert done.returncode == (1 if command == "verify synth" else 0), (command, done.stderr)
    assert len(list((tmp_path / "files").glob("sub-*/anat/*.nii.gz"))) == 6
    refused = run("merge", "parts/2", "--out", "merged", cwd=tmp_path)
    assert (refused.returncode, "parts are missing: 1/2" in refused.stderr) == (2, True)
    lacks = run("score", "--real", "real", "--synth", "synth", "--shard", "1/2", cwd=tmp_path)
    assert (lacks.returncode, "--features FILE" in lacks.stderr) == (2, True)
