"""The pictures over time and of distributions, and the waits: exact numbers of hand-made runs, and of empty ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tensorix_records import Run
from tensorix_reports.load import load_report
from tensorix_reports.load._distribution_pictures import MOST_POINTS_A_LINE, thinned_ecdf
from tensorix_reports.page._picture import Picture

MS = 1_000_000


def _pictures(run: Path) -> dict[str, Picture]:
    return {picture.id: picture for picture in load_report(run).pictures}


def test_thinned_distribution_is_exact() -> None:
    """Every point of a thinned line lies on the distribution of all values, both ends among them."""
    values = np.random.default_rng(2).lognormal(5, 1, 12_345)
    at, share = thinned_ecdf(values)
    assert len(at) == MOST_POINTS_A_LINE
    assert (at[0], at[-1], share[-1]) == (values.min(), values.max(), 1.0)
    assert share.tolist() == [np.count_nonzero(values <= one) / len(values) for one in at]
    few, shares = thinned_ecdf(np.array([3.0, 1.0, 1.0, 2.0]))
    assert (few.tolist(), shares.tolist()) == ([1.0, 1.0, 2.0, 3.0], [0.5, 0.5, 0.75, 1.0])


def test_bands_and_distributions(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """TTFT's bands are NumPy's percentiles of each stretch, and only where five samples lie beyond them."""
    records = [request_at(n, n / 10, first_token_at_ns=(100 + n % 100) * MS) for n in range(600)]
    records += [request_at(900, 1.0, status=429)]
    pictures = _pictures(make_run(records))
    rows = pictures["ttft"].data["rows"]
    assert set(rows["what"]) == {"p50", "p90"}
    first = rows[rows["t"] == rows["t"].min()].set_index("what")
    assert first.loc["p90", "count"] == 100
    assert first.loc["p90", "value"] == np.percentile(np.arange(100, 200), 90)
    ecdf = pictures["ecdf-ttft"].data["rows"]
    assert len(ecdf) == MOST_POINTS_A_LINE
    assert ecdf["ms"].max() == 199.0
    assert {"ecdf-itl", "ecdf-e2e"} < set(pictures)


def test_gaps_and_health(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The gaps' band is within 0.8 % of the gaps, and the client's lateness the worst of each stretch."""
    events = [(at, "second", {"loop_lag_max_ns": lag * MS}) for at, lag in ((1.2, 3), (1.8, 9), (2.5, 4))]
    run = make_run([request_at(n, n) for n in range(5)], events)
    writer = Run.open(run).writer("p2")
    writer.add_gaps("m", [1_790_000_000_000_000_000 + n * 20 * MS for n in range(200)])
    writer.close()
    pictures = _pictures(run)
    band = pictures["chunks"].data["rows"]
    assert set(band["what"]) == {"p50", "p90"}
    assert np.allclose(band["value"], 20.0, rtol=0.008)
    assert pictures["client"].data["rows"]["value"].tolist() == [9.0, 4.0]


def test_gaps_within_one_read(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Gaps of nanoseconds are drawn where a logarithm can: at a hundredth of a millisecond, and the caption says so."""
    run = make_run([request_at(n, n) for n in range(5)])
    writer = Run.open(run).writer("p2")
    writer.add_gaps("m", [1_790_000_000_000_000_000 + n for n in range(200)])
    writer.close()
    picture = _pictures(run)["chunks"]
    assert set(picture.data["rows"]["value"]) == {0.01}
    assert "came in one read" in picture.caption


def test_offered_and_ledger(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """What was due each second is drawn over what was sent, and the client's own count under what headers say."""
    left = {"remaining_requests": 10, "ledger_remaining_requests": 12}
    records = [request_at(n, n + 0.5, intended_at_ns=-600 * MS if n else 0, **left) for n in range(4)]
    pictures = _pictures(make_run(records))
    offered = pictures["rates"].data["offered"].set_index("t")["rate"]
    assert offered.loc[[0.5, 1.5, 2.5, 3.5]].tolist() == [2.0, 1.0, 1.0, 0.0]
    ledger = pictures["remaining_requests"].data["ledger"]
    assert (ledger["t"].tolist(), set(ledger["left"])) == ([0.5, 1.5, 2.5, 3.5], {12.0})


def test_nothing_to_draw(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """An empty run, and one of refusals, have no bands and no distributions, and say what is missing."""
    for records in ([], [request_at(n, n, status=429) for n in range(9)]):
        pictures = _pictures(make_run(records))
        assert not [id_ for id_ in pictures if id_.startswith("ecdf-")]
        for id_ in ("ttft", "chunks", "client"):
            assert pictures[id_].spec is None
            assert pictures[id_].caption.startswith("Not enough data")


def test_waits(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """Waits of a millisecond or longer are counted and summed; later attempts too."""
    held = [request_at(n, n, held_ns=(n + 1) * 100 * MS, attempt=1 + n % 2) for n in range(10)]
    waits = load_report(make_run([*held, request_at(20, 20, held_ns=900_000), request_at(21, 21)])).to_dict()["waits"]
    assert [waits[name] for name in ("told", "held", "held_s", "most_ms", "sent_again")] == [11, 10, 5.5, 1000.0, 5]
    assert waits["held_ms"]["p50"]["value"] == 550.0
    empty = load_report(make_run([])).to_dict()["waits"]
    assert (empty["told"], empty["held"], empty["most_ms"]) == (0, 0, None)


def test_sample_of_a_failure(make_run: Callable[..., Path], request_at: Callable[..., Any]) -> None:
    """The sample of a kind of failure has its message, when it was, how long it took, its ids and who sent it."""
    bad = {"outcome": "failed", "status": 500, "error_kind": "server_error", "process_id": "p7"}
    records = [request_at(1, 1, **bad), request_at(2, 2, **bad, error_message="out of order", response_id="z9")]
    (failure,) = load_report(make_run(records)).to_dict()["latency"]["failures"]
    assert (failure["count"], failure["sample"], failure["sample_at_s"]) == (2, "out of order", 2.0)
    assert (failure["sample_took_ms"], failure["sample_request_id"]) == (201.0, "q2")
    assert (failure["sample_response_id"], failure["sample_process"]) == ("z9", "p7")
