"""Every kind of page in Chromium with the network off: each picture answers to the mouse, axe finds nothing serious."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.limiters import Cost, FixedWindow
from tensorix_records.figures import Figure
from tensorix_records.judging import Judged
from tensorix_records.objectives import read_objective
from tensorix_reports.capacity import Capacity, Step, write_capacity
from tensorix_reports.comparison import compare, write_comparison
from tensorix_reports.limits import limits_report, write_limits
from tensorix_reports.load import write_report
from tensorix_reports.uptime import Objective as Availability
from tensorix_reports.uptime import uptime_report, write_uptime_report

pytestmark = pytest.mark.system("chromium")

Make = Callable[..., Any]
_KINDS = ["load", "uptime", "comparison", "capacity", "limits"]


def _load(make_run: Make, request_at: Make, *, slower: int = 1) -> Path:
    """A run with all there is to draw: two models, failures, 429s, a budget, tokens, workers' lag."""
    records = []
    for n in range(120):
        first = (100 + 37 * n % 90) * 1_000_000 * slower
        records.append(
            request_at(
                n,
                n / 4,
                remaining_requests=60 - n % 60,
                remaining_tokens=2_000_000 - 500 * n,
                model_requested=f"model-{n % 2}",
                prompt_tokens=20 + n,
                completion_tokens=10 + n % 5,
                first_token_at_ns=first,
                first_output_at_ns=first,
                last_token_at_ns=first + 10**8,
                end_at_ns=first + 10**8 + 10**6,
            )
        )
    records += [request_at(200 + n, 21 + n, status=429) for n in range(5)]
    failed = {"outcome": "failed", "status": 500, "error_kind": "server_error"}
    records += [request_at(300 + n, 5 + n, **failed) for n in range(5)]
    events = [(float(n), "second", {"users": 4, "in_flight": n % 4, "cpu_share": 0.2}) for n in range(1, 31)]
    run: Path = make_run(records, events, ended_s=31.0)
    return run


def _capacity(folder: Path) -> Path:
    wanted = read_objective("ttft_p95 < 300ms")
    steps = [
        Step(
            load=load,
            folder=f"step-{number}",
            purpose="step",
            standing="met" if load < 8 else "broken",
            reason=f"ttft p95 {load * 40:g} ms",
            seconds=30.0,
            requests=round(load * 30),
            sent_a_second=load,
            successful_a_second=load,
            judged=(
                Judged(
                    wanted,
                    "met" if load < 8 else "broken",
                    Figure(load * 4e7, load * 3.8e7, load * 4.2e7, round(load * 30), "order statistics"),
                    "as it is",
                ),
            ),
        )
        for number, load in enumerate((1.0, 2.0, 4.0, 8.0, 6.0))
    ]
    found = Capacity(
        unit="requests/s",
        base_url="http://127.0.0.1:9/v1",
        model="m",
        label=None,
        objectives=("ttft_p95 < 300ms",),
        good=(),
        found="knee",
        best=6.0,
        broken=8.0,
        why="the next step would be closer than a tenth",
        limit=None,
        steps=tuple(steps),
        spent={"requests": 630.0, "tokens": 9_000.0, "seconds": 150.0},
        budget={"requests": 5_000.0, "tokens": None, "seconds": 3_600.0},
        started_unix_ns=1_790_000_000_000_000_000,
    )
    return write_capacity(found, folder).page


def _uptime(make_history: Make, round_at: Make, folder: Path) -> Path:
    rounds = [round_at(900.0 * n, "down" if 20 <= n < 23 else "up") for n in range(200)]
    since = datetime(2026, 9, 22, tzinfo=UTC)
    report = uptime_report(make_history(rounds), since=since, objectives=Availability())
    return write_uptime_report(report, folder).page


def _limits(make_run: Make, request_at: Make) -> Path:
    times = [0.01 * n for n in range(13)] + [1.0, 2.0, 3.0, 4.9] + [5.1 + 0.01 * n for n in range(12)]
    limiter, records = FixedWindow("requests", 10, 5 * 10**9), []
    for number, at_s in enumerate(times):
        passed = limiter.admit(round(at_s * 1e9), Cost(1, 0)).admitted
        told = {"status": 200} if passed else {"status": 429, "outcome": "throttled"}
        records.append(request_at(number, at_s, stream=False, headers_at_ns=10**7, end_at_ns=10**7, **told))
    run = make_run(records, ended_s=6.0)
    return write_limits(limits_report(run), run / "limits").page


@pytest.fixture(scope="module")
def pages(
    make_run: Make,
    request_at: Make,
    make_history: Make,
    round_at: Make,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A page of each kind, made once."""
    folder = tmp_path_factory.mktemp("pages")
    first, second = _load(make_run, request_at), _load(make_run, request_at, slower=2)
    return {
        "load": write_report(first).page,
        "uptime": _uptime(make_history, round_at, folder / "uptime"),
        "comparison": write_comparison(compare([first, second]), folder / "comparison").page,
        "capacity": _capacity(folder),
        "limits": _limits(make_run, request_at),
    }


_MARKS = """
(id => {
  const place = document.getElementById(id);
  place.scrollIntoView({block: "center"});
  const marks = [...place.querySelectorAll(
    "[class*=mark-] path[aria-roledescription], [class*=mark-] rect, [class*=mark-] path, [class*=mark-] line")];
  const boxes = marks.map(mark => mark.getBoundingClientRect()).filter(box => box.right > 0 && box.left < innerWidth);
  const step = Math.max(1, Math.floor(boxes.length / 60));
  return boxes.filter((_, at) => at % step === 0).flatMap(box => [0.5, 0.25, 0.02, 0.98].map(
    share => [box.left + box.width * share, box.top + box.height * (box.width > 40 ? share : 0.5)]));
})
"""


def _answers(browser: Any, picture: str) -> bool:
    """Whether pointing somewhere at a picture's marks shows a tooltip."""
    for x, y in browser.value(f"({_MARKS})({picture!r})"):
        browser.mouse("mouseMoved", x, y)
        if browser.value("document.querySelector('#vg-tooltip-element.visible')?.innerText ?? ''").strip():
            browser.mouse("mouseMoved", 1, 1)
            return True
    return False


@pytest.mark.parametrize("kind", _KINDS)
def test_each_picture_answers_to_the_mouse(browser: Any, pages: dict[str, Path], kind: str) -> None:
    """Every picture of every page shows what a mark is, nobody is asked for anything, nothing is complained of."""
    browser.open(pages[kind], 1280)
    drawn = browser.value("[...document.querySelectorAll('.picture:has(svg)')].map(place => place.id)")
    assert drawn
    assert browser.value("document.documentElement.dataset.drawn") == str(len(drawn))
    assert [picture for picture in drawn if not _answers(browser, picture)] == []
    assert browser.complaints() == []


@pytest.mark.parametrize("kind", _KINDS)
def test_axe_finds_nothing_serious(browser: Any, pages: dict[str, Path], kind: str) -> None:
    """Nothing serious or critical in any page, in the dark and on a telephone, whose width it keeps to."""
    browser.open(pages[kind], 400, dark=True)
    assert browser.value("document.documentElement.scrollWidth") <= 400
    browser.value("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    browser.value(resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8") + "; 1")
    faults = browser.value(
        "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations"
        ".filter(one => ['serious', 'critical'].includes(one.impact))"
        ".map(one => [one.id, one.nodes.length, one.nodes[0].html, one.nodes[0].failureSummary]))"
    )
    assert faults == []
    assert browser.complaints() == []
