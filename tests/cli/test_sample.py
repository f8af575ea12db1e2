from __future__ import annotations

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
