"""What axe-core finds in the pages, and what they offer to who uses neither eyes nor a mouse; and on paper."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tensorix_reports.load import write_report

pytestmark = pytest.mark.system("chromium")


@pytest.fixture(scope="module")
def page(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> Path:
    """A page of a load test with pictures and failures."""
    records = [request_at(n, n / 3, remaining_requests=60 - n) for n in range(60)]
    records += [request_at(100 + n, 21 + n, status=429) for n in range(5)]
    failed = {"outcome": "failed", "status": 500, "error_kind": "server_error"}
    records += [request_at(200 + n, 30 + n, **failed) for n in range(5)]
    events = [(float(n), "second", {"users": 4, "in_flight": n % 4}) for n in range(1, 40)]
    return write_report(make_run(records, events, ended_s=40.0)).page


def _faults(browser: Any) -> list[Any]:
    """What axe-core calls serious or critical."""
    browser.value(resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8") + "; 1")
    found: list[Any] = browser.value(
        "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations"
        ".filter(one => ['serious', 'critical'].includes(one.impact))"
        ".map(one => [one.id, one.nodes.length, one.nodes[0].html, one.nodes[0].failureSummary]))"
    )
    return found


def test_the_load_page(browser: Any, page: Path) -> None:
    """Nothing serious is found in the light, whatever is unfolded; in the dark every page is looked at elsewhere."""
    browser.open(page, 1280)
    browser.value("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    browser.until("document.querySelectorAll('details.data table').length > 3")
    assert _faults(browser) == []


def test_each_picture_has_its_facts_in_words_and_in_a_table(browser: Any, page: Path) -> None:
    """A picture has a text alternative with its main facts, and its data in a table that the keyboard opens."""
    browser.open(page, 1280)
    pictures = browser.value("document.querySelectorAll('.picture').length")
    assert pictures >= 4
    words = browser.value("[...document.querySelectorAll('.picture')].map(one => one.getAttribute('aria-label'))")
    assert [one for one in words if " marks; " not in one or " from " not in one] == []
    assert any("throttled (5)" in one for one in words)
    browser.value("document.querySelectorAll('details.data > summary').forEach(one => one.click())")
    browser.until(f"document.querySelectorAll('details.data:has(table)').length === {pictures}")
    assert browser.value(
        "[...document.querySelectorAll('table')].every(one => one.caption.textContent"
        " && [...one.tHead.rows[0].cells].every(cell => cell.scope === 'col'))"
    )
    assert browser.complaints() == []


def test_on_paper(browser: Any, page: Path) -> None:
    """For paper everything is unfolded and light, and folded again afterwards."""
    browser.open(page, 1280, dark=True)
    folded = browser.value("document.querySelectorAll('details:not([open]):not(.data)').length")
    assert folded > 0
    browser.value("dispatchEvent(new Event('beforeprint')), 1")
    assert browser.value("document.querySelectorAll('details:not([open]):not(.data)').length") == 0
    browser.value("dispatchEvent(new Event('afterprint')), 1")
    assert browser.value("document.querySelectorAll('details:not([open]):not(.data)').length") == folded
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.call("Emulation.setEmulatedMedia", media="")
