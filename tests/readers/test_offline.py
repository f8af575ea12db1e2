"""A study without a server: pages that hold it, and answers that come back as files."""

from __future__ import annotations

import base64
import json
import re

import pytest

from synthbench.errors import ScorecardError, UsageError
from synthbench.readers.answers import read_answers
from synthbench.readers.offline import collect, export
from synthbench.readers.study import Key, answers_file, case_file, key_file, read_study
from tests.command_line import run
from tests.readers.small import study


@pytest.fixture
def folder(tmp_path):
    study(tmp_path / "study", "2afc", readers=2, controls=1, cases=2)
    return tmp_path / "study"


def saved(folder, file, answers, **changes):
    fields = {"schema_version": 1, "study": read_study(folder)[0].key_sha256,
              "reader": "reader-1", "answers": answers}  # fmt: skip
    file.write_text(json.dumps({**fields, **changes}), encoding="utf-8")
    return file


def line(number, choice="left", **more):
    return {"trial": f"t{number:04d}", "choice": choice, "seconds": 1.0,
            "at": "2026-01-01T00:00:00.000Z", **more}  # fmt: skip


def test_a_page_holds_the_volumes_of_its_reader_and_nothing_that_tells(folder, tmp_path):
    ended = run("readers", "export", folder, "--out", tmp_path / "pages", "--json")
    assert ended.returncode == 0, ended.stderr
    plan, _ = read_study(folder)
    key = Key.load(key_file(folder))
    for file in json.loads(ended.stdout)["files"]:
        page = (tmp_path / file).read_text(encoding="utf-8")
        data = re.findall(r'<script type="[^"]*" id="([^"]*)">(.*?)</script>', page, re.S)
        content = dict(data)
        fields = json.loads(content.pop("study"))
        trials = plan.readers[fields["reader"]]
        volumes = [base64.b64decode(content[f"volume-{i}"]) for i in range(len(content))]
        assert len({len(volume) for volume in volumes}) == 1
        for shown, trial in zip(fields["trials"], trials, strict=True):
            for number, case in zip(shown["volumes"], trial.cases, strict=True):
                assert volumes[number] == case_file(folder, case).read_bytes()[352:]
        words = json.dumps(fields)
        assert not [w for w in (*key.cases, "alpha", "beta", "blurred", 'real"') if w in words]
        assert "connect-src" not in page.split("</head>")[0]  # default-src 'none' stands
        assert "default-src &#39;none&#39;" in page


def test_answers_come_back_and_may_come_again_with_more(folder, tmp_path):
    first = saved(folder, tmp_path / "a.json", [line(1), line(2)])
    assert collect(folder, [first]) == {"reader-1": 2}
    assert collect(folder, [first]) == {"reader-1": 0}
    extra = [{"trial": "t0002", "undone": True}, line(2, "right")]
    more = saved(folder, tmp_path / "b.json", [line(1), line(2), *extra])
    assert collect(folder, [more]) == {"reader-1": 2}
    plan, scales = read_study(folder)
    trials = {trial.trial: trial for trial in plan.readers["reader-1"]}
    found = read_answers(answers_file(folder, "reader-1"), trials, scales)
    assert [(one.trial, one.choice) for one in found.values()] == [
        ("t0001", "left"), ("t0002", "right"),
    ]  # fmt: skip


def test_answers_that_do_not_belong_here_are_refused_and_nothing_is_taken(folder, tmp_path):
    good = saved(folder, tmp_path / "good.json", [line(1)])
    for changes, problem in (
        ({"study": "0" * 64}, "another study"),
        ({"reader": "reader-9"}, "another study"),
        ({"answers": [line(999)]}, "not asked"),
        ({"answers": [{"trial": "t0001", "levels": {"a": 1}}]}, "answer 1"),
    ):
        wrong = saved(folder, tmp_path / "wrong.json", **{"answers": [line(1)], **changes})
        with pytest.raises(UsageError, match=problem):
            collect(folder, [good, wrong])
    with pytest.raises(UsageError, match="second file"):
        collect(folder, [good, good])
    with pytest.raises(ScorecardError, match="reader"):
        collect(folder, [saved(folder, tmp_path / "wrong.json", [], reader="../x")])
    assert not answers_file(folder, "reader-1").exists()
    collect(folder, [good])
    other = saved(folder, tmp_path / "other.json", [line(1, "right")])
    with pytest.raises(UsageError, match="has other answers"):
        collect(folder, [other])


def test_export_needs_a_study(tmp_path):
    with pytest.raises(UsageError, match="no reader study"):
        export(tmp_path / "absent", tmp_path / "pages")
