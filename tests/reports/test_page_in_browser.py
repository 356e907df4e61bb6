"""The page in Chromium with the network off: it draws, answers to the mouse, fits, and asks nobody for anything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_reports.load import write_report

pytestmark = pytest.mark.system("chromium")

_EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\"'&|`"


def _page(make_run: Callable[..., Path], request_at: Callable[..., Any], text: str | None = None) -> Path:
    """A page with all its pictures; with `text` wherever a server can write."""
    more: dict[str, Any] = {} if text is None else {"key_alias": text, "model_requested": text}
    records = [
        request_at(n, n / 3, remaining_requests=60 - n, remaining_tokens=2_000_000 - 53 * n, **more) for n in range(60)
    ]
    records += [request_at(100 + n, 21 + n, status=429, error_message=text, **more) for n in range(5)]
    failed = {"outcome": "failed", "status": 500, "error_kind": text or "server_error", "error_message": text}
    records += [request_at(200 + n, 30 + n, **failed, **more) for n in range(5)]
    records += [request_at(300, 31, endpoint=f"/{text}", **more)] if text else []
    events = [(float(n), "second", {"users": 4, "in_flight": n % 4}) for n in range(1, 40)]
    asked = {"base_url": text or "http://127.0.0.1:9/v1", "model": text or "m"}
    return write_report(make_run(records, events, ended_s=40.0, asked=asked)).page


def _pictures(page: Path) -> dict[str, Any]:
    """The pictures that the page holds, by their names: each with its specification and its rows."""
    held = re.search(r'id="drawings">(.*?)</script>', page.read_text(), re.DOTALL)
    assert held is not None
    pictures: dict[str, Any] = json.loads(held[1])
    return pictures


def _over_time(page: Path) -> list[str]:
    """Those that are zoomed."""
    return [name for name, one in _pictures(page).items() if one["spec"].get("params")]


@pytest.fixture(scope="module")
def page(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> Path:
    """A page with all its pictures and nothing odd in it."""
    return _page(make_run, request_at)


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_draws_without_a_network(browser: Any, page: Path, width: int, dark: bool) -> None:
    """All pictures are drawn, nobody is asked, nothing is complained of, and the page is no wider than its window."""
    browser.open(page, width, dark=dark)
    pictures = _pictures(page)
    assert {"rates", "ttft", "latency", "concurrency", "ecdf-ttft"} <= set(pictures)
    assert browser.value("document.documentElement.dataset.drawn") == str(len(pictures))
    assert browser.value("[...document.querySelectorAll('.picture:has(svg)')].map(place => place.id)") == [
        f"picture-{name}" for name in pictures
    ]
    assert browser.value("document.querySelectorAll('#picture-rates path[aria-roledescription=bar]').length") > 20
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(
        "[...document.querySelectorAll('.picture svg')].every(svg => svg.getBoundingClientRect().right <= innerWidth)"
    )
    assert browser.complaints() == []


def test_pictures_stand_on_one_time_axis(browser: Any, page: Path) -> None:
    """In every picture over time the same instant lies at the same place."""
    browser.open(page, 1280)
    assert len(_over_time(page)) > 4
    edges = browser.value(
        f"{json.dumps(_over_time(page))}.map(name => {{ const place = document.getElementById(`picture-${{name}}`);"
        " const axis = place.querySelector('.role-axis-domain line').getBoundingClientRect();"
        " return [Math.round(axis.left), Math.round(axis.right)]; })"
    )
    assert len({tuple(edge) for edge in edges}) == 1


def test_tooltip_appears(browser: Any, page: Path) -> None:
    """Pointing at a mark shows what it is."""
    browser.open(page, 1280)
    browser.value("document.getElementById('picture-rates').scrollIntoView({block: 'center'})")
    box = browser.value(
        "(b => [b.left + b.width / 2, b.top + b.height / 2])"
        "(document.querySelector('#picture-rates path[aria-roledescription=bar]').getBoundingClientRect())"
    )
    browser.mouse("mouseMoved", 5, 5)
    browser.mouse("mouseMoved", *box)
    text = browser.until("document.querySelector('#vg-tooltip-element.visible')?.innerText")
    assert "success" in text
    assert "requests" in text
    assert browser.value("getComputedStyle(document.querySelector('#vg-tooltip-element')).visibility") == "visible"
    assert browser.complaints() == []


def test_drag_zooms_every_picture(browser: Any, page: Path) -> None:
    """A drag across one picture shows that stretch of time in all of them; a double click shows the whole run again."""
    browser.open(page, 1280)
    browser.value("document.getElementById('picture-rates').scrollIntoView({block: 'center'})")
    left, right, y = browser.value(
        "(place => { const axis = place.querySelector('.role-axis-domain line').getBoundingClientRect();"
        " return [axis.left, axis.right, axis.top - 60]; })(document.getElementById('picture-rates'))"
    )
    ticks = (
        f"{json.dumps(_over_time(page))}.map(name => document.getElementById(`picture-${{name}}`)).map(place =>"
        " [...place.querySelectorAll('.role-axis-label')].at(-1)"
        " && [...place.querySelector('.role-axis-label').querySelectorAll('text')]"
        ".filter(text => text.getAttribute('opacity') !== '0').map(text => +text.textContent).sort((a, b) => a - b))"
    )
    whole = browser.value(ticks)
    assert all(marks[0] == 0 and marks[-1] >= 35 for marks in whole)
    quarter = (right - left) / 4
    browser.mouse("mousePressed", left + quarter, y, button="left", clickCount=1)
    browser.mouse("mouseMoved", left + quarter * 1.5, y, button="left", buttons=1)
    browser.mouse("mouseMoved", left + quarter * 2, y, button="left", buttons=1)
    browser.mouse("mouseReleased", left + quarter * 2, y, button="left", clickCount=1)
    browser.until("!document.getElementById('whole').disabled")
    browser.until(f"{ticks}.every(marks => marks[0] > 0)")
    zoomed = browser.value(ticks)
    assert all(9 <= marks[0] <= 13 and 17 <= marks[-1] <= 21 for marks in zoomed), zoomed
    for count in (1, 2):
        browser.mouse("mousePressed", left + 10, y, button="left", clickCount=count)
        browser.mouse("mouseReleased", left + 10, y, button="left", clickCount=count)
    browser.until("document.getElementById('whole').disabled")
    browser.until(f"JSON.stringify({ticks}) === {json.dumps(json.dumps(whole, separators=(',', ':')))}")
    assert browser.complaints() == []


def test_a_servers_markup_stays_text(
    browser: Any, make_run: Callable[..., Path], request_at: Callable[..., Any]
) -> None:
    """Markup from a server is shown as it was sent, in tables, legends and tooltips, and runs nowhere."""
    browser.open(_page(make_run, request_at, _EVIL), 1280)
    assert browser.value("document.querySelectorAll('img, iframe, object').length") == 0
    assert browser.value("document.scripts.length") == 3
    assert _EVIL in browser.value("document.getElementById('failures').innerText")
    browser.value("document.getElementById('picture-remaining_requests').scrollIntoView({block: 'center'})")
    box = browser.value(
        "(b => [b.left + b.width / 2, b.top + b.height / 2])(document.querySelector("
        "'#picture-remaining_requests path[aria-roledescription=circle]').getBoundingClientRect())"
    )
    browser.mouse("mouseMoved", *box)
    text = browser.until("document.querySelector('#vg-tooltip-element.visible')?.innerText")
    assert "<img src=x onerror=alert(2)>" in text
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.complaints() == []


def test_the_policy_forbids_requests(browser: Any, page: Path) -> None:
    """The page's own policy stops a script in it from asking anybody, and what is stopped is seen by these tests."""
    browser.open(page, 1280)
    assert browser.value("fetch('http://127.0.0.1:9/').then(() => 'sent', error => error.name)") == "TypeError"
    assert browser.value("(() => { try { return eval('1 + 1'); } catch (error) { return error.name; } })()") in (
        "EvalError",
        2,
    )
    assert any("Content Security Policy" in complaint for complaint in browser.complaints())


def test_empty_run(browser: Any, make_run: Callable[..., Path]) -> None:
    """A page without pictures says so in words and complains of nothing."""
    browser.open(write_report(make_run([])).page, 400)
    assert browser.value("document.querySelectorAll('.picture').length") == 0
    assert browser.value("document.body.innerText").count("Not enough data") >= 5
    assert browser.complaints() == []
