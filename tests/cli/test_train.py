from __future__ import annotations

import sys

import pytest

from synthbench.cli import app
from synthbench.training import training


@pytest.mark.parametrize("began", [False, True])
def test_ctrl_c_outside_of_the_training_loop_says_how_to_go_on(
    began, tmp_path, monkeypatch, capsys
):
    def interrupted(generator, *, out, **options):
        if began:
            out.mkdir()
            (out / "config.yaml").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["synthbench", "train", "noise", "--out", "run"])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    assert stopped.value.code == 130
    words = "synthbench train --resume --out run" if began else "repeat the command"
    assert words in capsys.readouterr().err
