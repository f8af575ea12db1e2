"""The server: what a reader gets, what she cannot get, and what is refused."""

from __future__ import annotations

import json
import re
import stat

import numpy as np
import pytest
from starlette.testclient import TestClient

from synthbench.errors import UsageError
from synthbench.readers.server import CHECK, MOST_BODY, application, hosts_of
from synthbench.readers.sessions import Sessions, access
from synthbench.readers.study import Key, answers_file, case_file, key_file, read_study
from tests.readers.small import SHAPE, study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("server") / "study"
    study(made)
    # The server must do without it.
    key_file(made).rename(made.parent / "elsewhere.json")
    return made


class Browser:
    """A reader's browser, with her cookie and her page's check."""

    def __init__(self, folder, reader=None, host="127.0.0.1"):
        plan, scales = read_study(folder)
        self.tokens = access(folder, plan).tokens
        self.sessions = Sessions(folder, plan, scales, access(folder, plan))
        self.client = TestClient(
            application(self.sessions, hosts_of(host, ())), base_url=f"http://{host}:8000"
        )
        if reader:
            assert self.client.get(f"/enter/{self.tokens[reader]}").status_code == 200

    def get(self, path):
        return self.client.get(path)

    @property
    def state(self):
        return self.get("/state").json()

    def post(self, path, body, **headers):
        sent = {CHECK: self.state["check"], "content-type": "application/json", **headers}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, content=content, headers=sent)

    def reply(self, **more):
        state = self.state
        trial = state["trial"]
        answer = {"trial": trial["trial"], "seconds": 2.5, **more}
        if trial["kind"] == "2afc":
            answer["choice"] = "right"
        else:
            answer["levels"] = {item["key"]: 2 for item in state["items"]}
        return self.post("/answer", answer)


@pytest.fixture
def browser(folder):
    yield Browser(folder, "reader-1")
    for file in (folder / "answers").iterdir():
        file.unlink()


def test_a_reader_goes_through_the_study_and_every_answer_is_on_the_disk(browser, folder):
    plan, _ = read_study(folder)
    trials = plan.readers["reader-1"]
    for done, trial in enumerate(trials):
        state = browser.state
        assert state["trial"] == {
            "trial": trial.trial, "kind": trial.kind, "practice": trial.practice,
        }  # fmt: skip
        assert (state["done"], state["total"]) == (done, len(trials))
        for place, case in enumerate(trial.cases):
            voxels = browser.get(f"/volume/{trial.trial}/{place}").content
            assert voxels == case_file(folder, case).read_bytes()[352:]
            assert len(voxels) == np.prod(SHAPE)
        assert browser.reply().status_code == 200
        assert len(answers_file(folder, "reader-1").read_bytes().splitlines()) == done + 1
    assert browser.state["trial"] is None
    assert browser.post("/answer", {"trial": "t0001", "choice": "left"}).status_code == 409


def test_another_server_goes_on_where_the_first_one_was_killed(browser, folder):
    for _ in range(3):
        browser.reply()
    with answers_file(folder, "reader-1").open("ab") as stream:
        stream.write(b'{"trial": "t0004", "cho')  # killed while it wrote
    again = Browser(folder, "reader-1")
    assert again.state["done"] == 3
    assert again.reply().status_code == 200
    assert Browser(folder, "reader-1").state["done"] == 4
    assert Browser(folder, "reader-2").state["done"] == 0


def test_an_answer_can_be_taken_back(browser):
    assert browser.post("/undo", {}).status_code == 409
    browser.reply()
    first = browser.state["trial"]
    browser.reply()
    assert browser.post("/undo", {}).json()["trial"] == first
    assert browser.state["done"] == 1


def test_an_answer_whose_confirmation_was_lost_is_sent_again_to_a_new_server(browser, folder):
    """The page of before goes on, and the answer is in the file once. Another one is refused."""
    sent = {"trial": "t0001", "levels": {one["key"]: 2 for one in browser.state["items"]}}
    page = {CHECK: browser.state["check"]}
    assert browser.post("/answer", sent, **page).status_code == 200
    again = Browser(folder, "reader-1")
    reply = again.post("/answer", {**sent, "seconds": 9.0}, **page)
    assert (reply.status_code, reply.json()["done"]) == (200, 1)
    lines = answers_file(folder, "reader-1").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1
    changed = {**sent, "levels": dict.fromkeys(sent["levels"], 1)}
    assert again.post("/answer", changed, **page).status_code == 409
    (folder / "access.json").unlink()  # all links are revoked
    assert Browser(folder, "reader-1").post("/answer", sent, **page).status_code == 403


def test_nothing_that_is_sent_tells_what_is_real(browser, folder):
    """Names of groups, of copies and of files are in no reply, and headers are alike."""
    key = Key.load(folder.parent / "elsewhere.json")
    page = browser.get("/")
    sent = [page.text, browser.get("/state").text]
    replies = []
    while browser.state["trial"]:
        trial = browser.state["trial"]
        for place in range(2 if trial["kind"] == "2afc" else 1):
            replies.append(browser.get(f"/volume/{trial['trial']}/{place}"))
        sent.append(browser.reply().text)
    for text in sent:
        for word in (*key.cases, "alpha", "beta", "blurred", "memorizer"):
            assert word not in text.replace("globalCompositeAlpha", "") or text == page.text
    assert not [case for case in key.cases if case in page.text]
    assert len({tuple(sorted(reply.headers.items())) for reply in replies}) == 1


@pytest.mark.parametrize("path", ["/", "/state", "/volume/t0001/0", "/enter/wrong"])
def test_without_a_token_there_is_nothing(folder, path):
    stranger = Browser(folder)
    assert stranger.get(path).status_code == 403
    assert "open the link" in stranger.get(path).text


def test_a_reader_cannot_reach_other_trials_or_files(browser):
    for path in (
        "/volume/t0002/0", "/volume/t0001/1", "/volume/t0001/-1", "/volume/..%2f..%2fkey/0",
        "/volume/t0001/0/../../../study.json", "/study.json", "/access.json", "/cases", "/answers",
        "/..%2felsewhere.json", "/%2e%2e/elsewhere.json", "/docs", "/enter/",
    ):  # fmt: skip
        assert browser.get(path).status_code in (404, 405), path


def test_another_site_and_a_wrong_check_are_refused(browser):
    good = {"trial": "t0001", "levels": {}}
    assert browser.post("/answer", good, origin="http://evil.example").status_code == 403
    assert browser.post("/answer", good, **{CHECK: "0" * 64}).status_code == 403
    assert browser.post("/undo", {}, **{CHECK: ""}).status_code == 403
    assert browser.post("/answer", good, **{"content-type": "text/plain"}).status_code == 403
    other = Browser(folder=browser.sessions.by_reader["reader-1"].folder, reader="reader-2")
    assert browser.post("/answer", good, **{CHECK: other.state["check"]}).status_code == 403
    assert browser.post("/undo", {}, origin="http://127.0.0.1:8000").status_code == 409
    assert browser.get("/answer").status_code == 405


def test_a_name_of_another_site_for_this_machine_is_refused(folder):
    tokens = Browser(folder).tokens
    rebound = Browser(folder)
    reply = rebound.client.get(
        f"/enter/{tokens['reader-1']}", headers={"host": "evil.example:8000"}
    )
    assert reply.status_code == 400


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * (MOST_BODY + 1), 413), (b"{", 400), (b"[]", 400), (b"\xff\xfe", 400),
        (b"[" * 60_000, 400), ({"trial": "t0001"}, 409), ({"trial": "t0001", "levels": {}}, 409),
        ({"trial": "../../x", "choice": "left"}, 400), ({"trial": "t0002", "choice": "left"}, 409),
        ({"trial": "t0001", "undone": True}, 409), ({"trial": "t0001", "more": 1}, 400),
        ({"trial": "t0001", "levels": {"appearance": 99}}, 409),
        ({"trial": "t0001", "comment": "x" * 3000}, 400),
        ({"trial": "t0001", "seconds": float("inf")}, 400),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_refused_and_not_written(browser, folder, body, status):
    assert browser.post("/answer", body).status_code == status
    assert not answers_file(folder, "reader-1").exists()


def test_the_time_of_an_answer_is_the_servers(browser, folder):
    browser.reply(at="1999-01-01T00:00:00Z", comment="ünï\n</script>")
    (line,) = answers_file(folder, "reader-1").read_text(encoding="utf-8").splitlines()
    written = json.loads(line)
    assert not written["at"].startswith("1999")
    assert (written["seconds"], written["comment"]) == (2.5, "ünï\n</script>")


def test_tokens_are_long_secret_and_can_be_revoked(folder, tmp_path):
    plan, _ = read_study(folder)
    before = access(folder, plan).tokens
    assert access(folder, plan).tokens == before
    assert all(len(token) >= 32 for token in before.values())
    assert len(set(before.values())) == 3
    assert stat.S_IMODE((folder / "access.json").stat().st_mode) == 0o600
    after = access(folder, plan, ["reader-2"]).tokens
    assert after["reader-2"] != before["reader-2"]
    assert after["reader-1"] == before["reader-1"]
    browser = Browser(folder)
    assert browser.get(f"/enter/{before['reader-2']}").status_code == 403
    with pytest.raises(UsageError, match="--revoke reader-9"):
        access(folder, plan, ["reader-9"])


def test_the_page_loads_nothing_and_allows_itself_only(browser):
    reply = browser.get("/")
    rules = reply.headers["content-security-policy"]
    assert "default-src 'none'" in rules
    assert "connect-src 'self'" in rules
    assert "frame-ancestors 'none'" in rules
    assert reply.headers["cache-control"] == "no-store"
    markup = re.sub(r"<(script|style)>.*?</\1>", "", reply.text, flags=re.S)
    assert not re.search(r"(src|href)=", markup)
    script = re.findall(r"<script>(.*?)</script>", reply.text, re.S)[-1]
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", script)


def test_the_cookie_is_kept_from_scripts_and_other_sites(folder):
    browser = Browser(folder)
    reply = browser.client.get(f"/enter/{browser.tokens['reader-1']}", follow_redirects=False)
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
