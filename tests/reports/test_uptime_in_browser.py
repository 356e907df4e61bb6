"""The uptime page in Chromium with the network off: it draws, zooms, fits a telephone, and asks nobody for anything."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tensorix_records.history import ResultRow, RoundRow
from tensorix_reports.uptime import Objective, uptime_report, write_uptime_report

pytestmark = pytest.mark.system("chromium")

ORIGIN = datetime(2026, 9, 22, tzinfo=UTC)
_EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\"'&|`"

MakePage = Callable[..., Path]


@pytest.fixture(scope="module")
def make_page(
    make_history: Callable[..., str], round_at: Callable[..., RoundRow], tmp_path_factory: pytest.TempPathFactory
) -> MakePage:
    """A page of five days of three targets, with an outage, a gap and maintenance; with `text` as name and reason."""

    def make(text: str | None = None) -> Path:
        rounds = []
        for target in (text or "production", "staging", "a-target-with-a-name-of-some-length/eu"):
            for n in range(480):
                if target == "staging" and 200 <= n < 250:
                    continue
                state = "down" if 100 <= n < 103 or (target == "staging" and n > 470) else "up"
                phases = {"first_token": 10**8 * (1 + n % 7), "total": 10**9, "connect": 10**6}
                start = (round(ORIGIN.timestamp()) + 900 * n) * 10**9
                stream = ResultRow(
                    check="stream", state="up", started_unix_ns=start, phases_ns=phases, cost=0.001, tokens=9
                )
                more: dict[str, Any] = {"maintenance": text or "upgrade"} if 300 <= n < 310 else {}
                more |= {} if state == "up" else {"reason": text or "the server answered 503: " + "long words " * 12}
                rounds.append(
                    round_at(900 * n, state, target=target, location=text or "fra", results=(stream,), **more)
                )
        until = ORIGIN + timedelta(days=5)
        report = uptime_report(make_history(rounds), since=ORIGIN, until=until, objectives=Objective())
        return write_uptime_report(report, tmp_path_factory.mktemp("uptime")).page

    return make


@pytest.fixture(scope="module")
def page(make_page: MakePage) -> Path:
    """A page with all its pictures and nothing odd in it."""
    return make_page()


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_draws_without_a_network(browser: Any, page: Path, width: int, dark: bool) -> None:
    """All pictures are drawn, nobody is asked, nothing is complained of, and the page is no wider than its window."""
    browser.open(page, width, dark=dark)
    assert browser.value("document.documentElement.dataset.drawn") == "5"
    assert browser.value("document.querySelectorAll('.picture svg').length") == 5
    cells = "document.querySelectorAll('#picture-calendar .mark-rect path').length"
    assert browser.value(cells) >= 15
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(
        "[...document.querySelectorAll('.picture svg')].every(svg => svg.getBoundingClientRect().right <= innerWidth)"
    )
    assert browser.complaints() == []


def test_the_calendar_is_text_as_well(browser: Any, page: Path) -> None:
    """Each day of each target stands in a table, so that nobody has to tell colours apart."""
    browser.open(page, 1280)
    rows = browser.value("[...document.querySelectorAll('#days tbody tr')].map(row => row.textContent)")
    assert [row[:10] for row in rows] == [f"2026-09-{day}" for day in (26, 25, 24, 23, 22)]
    assert all("%" in row for row in rows)


def test_tooltip_and_zoom(browser: Any, page: Path) -> None:
    """Pointing at a day tells it in words; a drag in one picture zooms all, and the button shows all again."""
    browser.open(page, 1280)
    browser.value("document.getElementById('picture-calendar').scrollIntoView({block: 'center'})")
    box = browser.value(
        "(b => [b.left + b.width / 2, b.top + b.height / 2])"
        "(document.querySelector('#picture-calendar .mark-rect path').getBoundingClientRect())"
    )
    browser.mouse("mouseMoved", 5, 5)
    browser.mouse("mouseMoved", *box)
    text = browser.until("document.querySelector('#vg-tooltip-element.visible')?.innerText")
    assert "2026-09-22" in text
    assert "available" in text
    browser.mouse("mouseMoved", 5, 5)
    left, right, y = browser.value(
        "(place => { const axis = place.querySelector('.role-axis-domain line').getBoundingClientRect();"
        " return [axis.left, axis.right, axis.top - 20]; })(document.getElementById('picture-timeline'))"
    )
    labels = (
        "[...document.querySelectorAll('.picture')].map(place => [...place.querySelector('.role-axis-label')"
        ".querySelectorAll('text')].filter(text => text.getAttribute('opacity') !== '0')"
        ".map(text => text.textContent).sort().join())"
    )
    whole = browser.value(labels)
    assert len(set(whole)) == 1
    quarter = (right - left) / 4
    browser.mouse("mousePressed", left + quarter, y, button="left", clickCount=1)
    browser.mouse("mouseMoved", left + quarter * 1.5, y, button="left", buttons=1)
    browser.mouse("mouseReleased", left + quarter * 2, y, button="left", clickCount=1)
    browser.until("!document.getElementById('whole').disabled")
    browser.until(f"new Set({labels}).size === 1 && {labels}[0] !== {whole[0]!r}")
    browser.value("document.getElementById('whole').click()")
    browser.until(f"{labels}.every(text => text === {whole[0]!r})")
    assert browser.complaints() == []


def test_markup_stays_text(browser: Any, make_page: MakePage) -> None:
    """Markup in names and reasons is shown as it was sent, in tables and tooltips, and runs nowhere."""
    browser.open(make_page(_EVIL), 400)
    assert browser.value("document.querySelectorAll('img, iframe, object').length") == 0
    assert browser.value("document.scripts.length") == 3
    assert _EVIL in browser.value("document.getElementById('incidents').innerText")
    assert browser.value("document.documentElement.scrollWidth") <= 400
    assert browser.complaints() == []
