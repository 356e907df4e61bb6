"""The status page: what it says, in words that need no documentation; in Chromium with the network off."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_probes.result import Assertion, Phases, ProbeResult, Round, State
from tensorix_probes.serve.page import moment, page_of, percent, seconds, span
from tensorix_probes.serve.status import Board, Past
from tensorix_probes.serve.tally import Tally
from tensorix_probes.settings import Target

NOW = 1_795_430_000.0
EVIL = "</title></script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\"'&|`{{7*7}}"
_LOADED = "document.readyState === 'complete'"


def _result(check: str, state: State = State.UP, **fields: Any) -> ProbeResult:
    return ProbeResult(check=check, target="prod", state=state, started_unix_ns=round((NOW - 5) * 1e9), **fields)


def _round(number: int, state: State = State.UP, *results: ProbeResult, **fields: Any) -> Round:
    at = round((NOW - 3_600 + 60 * number) * 1e9)
    return Round(round_id=str(number), target="prod", state=state, started_unix_ns=at, results=results, **fields)


def _status(board: Board, *targets: Target, **fields: Any) -> dict[str, Any]:
    """What a service says of some targets of a board."""
    about: dict[str, Any] = {
        "running": False,
        "next_run": NOW + 23,
        "maintenance": None,
        "missed": {"late": 0, "overlap": 0},
        "currency": None,
        "budget": {
            "requests_a_minute": 2,
            "requests_allowed": 3,
            "tokens_a_minute": 60,
            "tokens_allowed": 100_000,
            "tokens_today": 12_345,
            "tokens_a_day": 100_000,
            "cost_today": None,
            "cost_a_day": None,
        },
    }
    shown = [
        {
            "name": target.name,
            "base_url": target.base_url,
            "model": target.model,
            "interval_s": target.interval_s,
            "objective": target.objective.availability,
            **about,
            **fields,
            **board.of(target, 1_000.0),
        }
        for target in targets
    ]
    document = {
        "format": 1,
        "version": "0.1.0",
        "location": "berlin",
        "now": NOW,
        "started": NOW - 7_200,
        "notices": [],
        "history": None,
        "targets": shown,
    }
    # As a program reads it: nothing but JSON may be needed to draw the page.
    return dict(json.loads(json.dumps(document)))


@pytest.fixture
def board() -> Board:
    """One that watches `prod`."""
    made = Board()
    made.watch(["prod"])
    return made


def _text(page: str) -> str:
    """The words of a page, on one line."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_up(board: Board) -> None:
    """A target that is up says so, since when, how available it was, its times, and what it costs."""
    phases = Phases(connect_ns=1_200_000, first_token_ns=230_000_000, total_ns=1_250_000_000)
    for number in range(60):
        stream = _result("stream", phases=phases, figures={"tokens_per_second": 31.25})
        board.see(_round(number, State.UP, _result("models"), stream), 1_000.0 - 3_540 + 60 * number)
    page = page_of(_status(board, Target(name="prod", model="deepseek")))
    text = _text(page)
    assert "<title>Up \N{EN DASH} prod</title>" in page
    for words in (
        "up for 1 h, since 2026-11-23 09:33:20 UTC",
        "available, 1 h 100 % 60 of 60 rounds",
        "available, 24 h 100 % 60 of 60 rounds, known for 59 min",
        "error budget left 100 % objective 99.50 % over 30 d",
        "0 down of 216.0 allowed",
        "nothing to judge",
        "12,345 tokens of 100,000",
        "2 of 3 requests in the last minute",
        "slots missed 0",
        "next in 23 s",
        "first token 230 ms",
        "in all 1.25 s",
        "31.2 tokens a second",
        "last 230 ms · highest 230 ms",
        "Probed from berlin",
    ):
        assert words in text, f"{words!r} is not in {text}"
    assert page.count("<rect class=") == 60


def test_down(board: Board) -> None:
    """A target that is down says why in a line, which assertion it was, and what it has cost the objective."""
    why = "127.0.0.1 port 9 refused the connection"
    broken = _result("tls", State.DOWN, reason=why, assertions=(Assertion("connects", False, why),), request_id="r-1")
    why_not = "explained by tls"
    skipped = [_result(name, State.INCONCLUSIVE, reason=why_not) for name in ("models", "chat", "stream")]
    for number in range(60):
        board.see(_round(number), 1_000.0 - 3_600 + 60 * number)
    board.see(_round(60, State.DOWN, broken, *skipped, reason=why, cause_check="tls", cause="connects"), 1_000.0)
    page = page_of(_status(board, Target(name="prod"), missed={"late": 2, "overlap": 1}))
    text = _text(page)
    assert "<title>Down \N{EN DASH} prod</title>" in page
    for words in (
        f"{why} (tls.connects failed)",
        "down: does not answer, or not as a chat API",
        "models, chat, stream inconclusive explained by tls",
        "available, 1 h 98.3 % 59 of 60 rounds",
        "error budget left 99.53 % objective 99.50 % over 30 d",
        "1 down of 216.0 allowed",
        "request r-1",
        "slots missed 3",
        "2: this machine was too busy",
        "1: the round before was not over",
    ):
        assert words in text, f"{words!r} is not in {text}"


def test_several(board: Board) -> None:
    """Of several targets the worst comes first, and the headline counts them."""
    board.watch(["a", "prod", "c"])
    board.see(_round(1, State.DOWN, reason="no"), 1_000.0)
    page = page_of(_status(board, Target(name="a"), Target(name="prod"), Target(name="c")))
    assert "<h1>1 down, 2 not yet probed</h1>" in page
    assert page.index("<h2>prod</h2>") < page.index("<h2>a</h2>") < page.index("<h2>c</h2>")
    assert page.count('href="#t1"') == 1


def test_maintenance_and_notices(board: Board) -> None:
    """What is in maintenance says so, and what is wrong with the probing itself stands at the top."""
    board.see(_round(1, State.DOWN, maintenance="upgrade"), 1_000.0)
    status = _status(board, Target(name="prod"), maintenance="upgrade")
    status["notices"] = ["The history cannot be written: the disk is full."]
    text = _text(page_of(status))
    assert "In maintenance (upgrade): probes go on, and count for nothing." in text
    assert "The history cannot be written: the disk is full." in text
    assert "available, 1 h \N{EN DASH} nothing is known yet" in text


def test_what_is_in_maintenance_stands_apart(board: Board) -> None:
    """It is neither in the headline's counts nor the first, and not in red."""
    board.watch(["a", "prod"])
    board.see(_round(1, State.DOWN, maintenance="upgrade"), 1_000.0)
    status = _status(board, Target(name="prod"), Target(name="a"))
    status["targets"][0]["maintenance"] = "upgrade"
    page = page_of(status)
    assert "<h1>1 not yet probed, 1 in maintenance</h1>" in page
    assert page.index("<h2>a</h2>") < page.index("<h2>prod</h2>")
    assert 'class="target down"' not in page
    status["targets"] = status["targets"][:1]
    assert "<h1>In maintenance</h1>" in page_of(status)


def test_an_outage_goes_on_through_what_says_nothing(board: Board) -> None:
    """Since is since the first round that was down, until one is good again."""
    states = (State.UP, State.DOWN, State.INCONCLUSIVE, State.DOWN, State.PAYMENT, State.DOWN)
    since = []
    for number, state in enumerate(states):
        board.see(_round(number, state), 1_000.0 + number)
        since.append((board.of(Target(name="prod"), 1_010.0)["since"] - (NOW - 3_600)) / 60)
    assert since == [0, 1, 2, 1, 4, 1]
    board.see(_round(6, State.UP), 1_006.0)
    board.see(_round(7, State.DOWN), 1_007.0)
    assert board.of(Target(name="prod"), 1_010.0)["since"] == NOW - 3_600 + 7 * 60


def test_almost_no_data_is_no_judgement(board: Board) -> None:
    """A minute of failures says that it is too little, and spends of the budget of 30 days what it is."""
    board.see(_round(1, State.DOWN, reason="no"), 1_000.0)
    status = _status(board, Target(name="prod"))
    text = _text(page_of(status))
    assert "error budget left too little data objective 99.50 % over 30 d" in text
    assert "times" not in text
    month = status["targets"][0]["windows"][-1]
    assert (month["enough"], month["budget_rounds"]) == (False, pytest.approx(216))
    assert month["error_budget_left"] == pytest.approx(1 - 1 / 216)


def test_the_reasons_of_past_rounds_can_be_read(board: Board) -> None:
    """Those that were not up are a list with times and reasons, the newest first."""
    for number, state in enumerate((State.DOWN, State.UP, State.DEGRADED)):
        board.see(_round(number, state, reason=None if state is State.UP else f"because {number}"), 1_000.0 + number)
    text = _text(page_of(_status(board, Target(name="prod"))))
    assert "2 of the last 3 rounds were not up" in text
    assert re.search(r"09:35:20 UTC degraded because 2 .*09:33:20 UTC down because 0", text)


def test_a_check_that_judged_nothing_is_not_up(board: Board) -> None:
    """It says so; a connection without TLS says that."""
    looked = _result("chat", assertions=(Assertion("status_is_200", True),))
    tls = _result("tls", assertions=(Assertion("connects", True),))
    board.see(_round(1, State.UP, tls, looked, _result("ratelimit")), 1_000.0)
    text = _text(page_of(_status(board, Target(name="prod"))))
    assert "tls connection and certificate no TLS" in text
    assert "chat a question answered up" in text
    assert "ratelimit rate-limit headers nothing to judge" in text


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (None, "\N{EN DASH}"),
        (1.0, "100 %"),
        (0.99999999, "99.9999 %"),
        (0.9995, "99.95 %"),
        (0.995, "99.50 %"),
        (0.98339, "98.3 %"),
        (0.0, "0.0 %"),
    ],
)
def test_a_share_never_looks_better_than_it_is(share: float | None, words: str) -> None:
    """What is not all of it is not rounded up to it."""
    assert percent(share) == words


def test_times_are_written_for_people() -> None:
    """A measured time has three digits or so, a length its two largest units, and no time of day breaks the page."""
    assert [seconds(value) for value in (None, 0.0004, 0.0095, 0.23, 0.9996, 1.25, 12.3)] == [
        "\N{EN DASH}",
        "0.4 ms",
        "9.5 ms",
        "230 ms",
        "1.00 s",
        "1.25 s",
        "12 s",
    ]
    assert [span(value) for value in (-3, 0, 59, 60, 3_600, 3_725, 7_500, 86_400 * 3 + 7_200)] == [
        "0 s",
        "0 s",
        "59 s",
        "1 min",
        "1 h",
        "1 h 2 min",
        "2 h 5 min",
        "3 d 2 h",
    ]
    assert moment(NOW) == "2026-11-23 10:33:20 UTC"
    assert moment(1e300) == "at an unknown time"


def test_windows_move() -> None:
    """A count leaves its window when it is older than it, to a piece, and memory stays bounded."""
    tally = Tally(60.0, 6)
    for second in range(10_000):
        tally.add(second, State.DOWN if second == 9_950 else State.UP)
    assert 60 >= sum(tally.counts(9_999).values()) >= 50
    assert tally.counts(9_999)[State.DOWN] == 1
    assert tally.counts(10_015)[State.DOWN] == 0
    assert len(tally._counts) <= 7
    tally.add(5.0, State.DOWN, now_s=10_015)
    assert tally.counts(10_015)[State.DOWN] == 0


def test_what_a_history_knows(board: Board) -> None:
    """After a restart the page goes on: the state's beginning and the windows come from before."""
    counts = ((7_200.0, State.UP, 60), (600.0, State.DOWN, 1), (60.0, State.UP, 1))
    board.see(_round(60, State.UP), 1_000.0)
    board.recall("prod", Past(state=State.UP, since_unix_ns=round((NOW - 60) * 1e9), counts=counts), 990.0, 1_000.0)
    seen = board.of(Target(name="prod"), 1_000.0)
    assert seen["since"] == NOW - 60
    assert [window["rounds"]["up"] for window in seen["windows"]] == [2, 62, 62]
    assert [window["rounds"]["down"] for window in seen["windows"]] == [1, 1, 1]
    board.see(_round(61, State.DOWN), 1_000.0)
    assert board.of(Target(name="prod"), 1_000.0)["since"] == NOW + 60


@pytest.fixture
def evil_page(board: Board, tmp_path: Path) -> Path:
    """A page with markup wherever a server, or whoever wrote the configuration, can write."""
    result = _result(
        "chat",
        State.DOWN,
        reason=EVIL,
        assertions=(Assertion(EVIL, False, EVIL), Assertion("other", False, EVIL)),
        request_id=EVIL,
        figures={"tokens_per_second": 1.0},
    )
    evil = Target(name="prod", base_url="http://127.0.0.1:9/v1", model=EVIL)
    fields: dict[str, Any] = {"reason": EVIL, "cause_check": EVIL, "cause": EVIL, "maintenance": EVIL}
    board.see(_round(1, State.DOWN, result, **fields), 1_000.0)
    status = _status(board, evil, maintenance=EVIL)
    status["location"] = status["targets"][0]["name"] = EVIL
    status["notices"] = [EVIL]
    status["targets"] = [status["targets"][0]] * 2
    path = tmp_path / "evil.html"
    path.write_text(page_of(status), encoding="utf-8")
    return path


@pytest.fixture
def long_page(board: Board, tmp_path: Path) -> Path:
    """A page of three targets with everything on it."""
    long = "the server closed the connection before the answer was whole: " + "x" * 300
    phases = Phases(**{f"{name}_ns": 123_456_789 for name in ("dns", "connect", "tls", "send", "first_token", "total")})
    checks = [_result(name, phases=phases) for name in ("tls", "models", "auth", "stream", "errors", "ratelimit")]
    board.watch(["prod", "b", "c"])
    for number in range(78):
        bad = number % 7 == 0
        state = State.DOWN if bad else State.DEGRADED if number % 5 == 0 else State.UP
        results = [*checks, _result("chat", state, reason=long if bad else None)]
        board.see(_round(number, state, *results, reason=long if bad else None), 1_000.0 - 4_800 + 60 * number)
    path = tmp_path / "page.html"
    path.write_text(page_of(_status(board, Target(name="prod"), Target(name="b"), Target(name="c"))), encoding="utf-8")
    return path


@pytest.mark.system("chromium")
@pytest.mark.parametrize(("width", "dark"), [(1_280, False), (400, False), (400, True)])
def test_in_a_browser(browser: Any, long_page: Path, width: int, dark: bool) -> None:
    """With the network off the page is whole: no error, no request, nothing beyond its edge, its own colours."""
    browser.open(long_page, width, dark=dark, ready=_LOADED)
    assert browser.complaints() == []
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.querySelectorAll('section.target').length") == 3
    assert browser.value("document.querySelectorAll('svg.rounds')[0].getBoundingClientRect().height") > 20
    ground = browser.value("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")
    for selector in (".tiles dd", "header", "table.checks td.what"):
        assert browser.value(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().width") > 50
    assert browser.value("document.scripts.length") == 0
    why = "document.querySelector('#overview td.what').getBoundingClientRect()"
    assert browser.value(f"{why}.width") > 100
    assert browser.value(f"{why}.right") <= width


@pytest.mark.system("chromium")
def test_markup_stays_text(browser: Any, evil_page: Path) -> None:
    """Markup from a server or a name is shown as it was sent, and runs nowhere."""
    browser.open(evil_page, 1_280, ready=_LOADED)
    assert browser.value("document.querySelectorAll('img, script, iframe, object').length") == 0
    assert EVIL in browser.value("document.body.innerText")
    assert EVIL in browser.value("document.querySelector('rect title').textContent")
    assert browser.complaints() == []


@pytest.mark.system("chromium")
def test_the_policy_forbids_scripts(browser: Any, long_page: Path, make_page: Callable[[str], Path]) -> None:
    """A script that came into the page all the same would not run, and could ask nobody."""
    evil = "<script>document.title = 'ran'</script><img src='http://127.0.0.1:9/x.png'></main>"
    page = make_page(long_page.read_text(encoding="utf-8").replace("</main>", evil))
    browser.open(page, 1_280, ready=_LOADED)
    assert browser.value("document.title") != "ran"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())
    blocked = [event["params"] for event in browser.events if event.get("method") == "Network.loadingFailed"]
    assert [event.get("blockedReason") for event in blocked] == ["csp"]


@pytest.fixture
def make_page(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a page to open."""

    def make(text: str) -> Path:
        path = tmp_path / "made.html"
        path.write_text(text, encoding="utf-8")
        return path

    return make
