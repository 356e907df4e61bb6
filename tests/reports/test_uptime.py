"""The figures of the uptime report, against histories whose answers are known and against a plain recount."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from tensorix_api.errors import HistoryError
from tensorix_records.figures import fraction
from tensorix_records.history import ResultRow, RoundRow
from tensorix_reports.uptime import Objective, UptimeReport, uptime_report

ORIGIN = datetime(2026, 9, 22, tzinfo=UTC)
ORIGIN_NS = int(ORIGIN.timestamp()) * 10**9
HOUR, DAY = 3600, 86_400
STATES = ("up", "degraded", "inconclusive", "payment", "down")

RoundAt = Callable[..., RoundRow]
MakeHistory = Callable[..., str]


def report_of(url: str, hours: float, *, since_h: float = 0, **options: Any) -> UptimeReport:
    """The report of [origin + since, origin + hours)."""
    since, until = ORIGIN + timedelta(hours=since_h), ORIGIN + timedelta(hours=hours)
    return uptime_report(url, since=since, until=until, **options)


def at(seconds: float) -> int:
    return ORIGIN_NS + round(seconds * 1e9)


def test_empty_history(make_history: MakeHistory) -> None:
    """Of a history without a round nothing is claimed."""
    report = report_of(make_history(), 1)
    assert report.targets == []
    assert [*report.availability, *report.standings, *report.incidents, *report.days] == []


def test_no_history_is_a_mistake(tmp_path: Any) -> None:
    """A history that is not there is not made by asking for a report."""
    with pytest.raises(HistoryError):
        report_of(str(tmp_path / "none.sqlite"), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_was_never_probed(make_history: MakeHistory, round_at: RoundAt) -> None:
    """A target with an objective and no probe is in the report as unwatched, not left out."""
    url = make_history([round_at(60 * n) for n in range(60)])
    report = report_of(url, 1, objectives={"here": Objective(), "silent": Objective(interval_s=60.0)})
    assert report.targets == ["here", "silent"]
    silent = report.standings[1]
    assert (silent.met, silent.counts.conclusive) == (None, 0)
    (row,) = [row for row in report.availability if row.target == "silent"]
    assert (row.unknown_s, row.missed, row.counts.share.value) == (HOUR, 60, None)


def test_one_probe(make_history: MakeHistory, round_at: RoundAt) -> None:
    """One good probe of an hour is 1 of 1, and the rest of the hour is time in which nobody looked."""
    report = report_of(make_history([round_at(600)]), 1, objectives=Objective(interval_s=60.0))
    (row,) = report.availability
    assert (row.counts.up, row.counts.conclusive, row.counts.share.value) == (1, 1, 1.0)
    assert row.unknown_s == HOUR - 60
    assert [(gap.why, gap.missed) for gap in report.gaps] == [("before", 10), ("after", 49)]
    assert not report.standings[0].sure


def test_all_down(make_history: MakeHistory, round_at: RoundAt) -> None:
    """An hour of failures is one incident without bounds, and overdraws the budget by all but what was allowed."""
    report = report_of(make_history([round_at(60 * n, "down") for n in range(60)]), 1)
    (standing,) = report.standings
    assert (standing.met, standing.sure) == (False, True)
    assert standing.allowed == pytest.approx(0.3)
    assert standing.left == pytest.approx(-59.7)
    assert standing.left_minutes == pytest.approx(-59.7)
    # Of the last 6 and 24 hours most is not known.
    assert standing.burns["1 h"].rate == pytest.approx(200)
    assert (standing.burns["6 h"].rate, standing.burns["24 h"].rate) == (None, None)
    (incident,) = report.incidents
    assert (incident.start_unix_ns, incident.end_unix_ns, incident.failed) == (at(0), None, 60)
    assert (incident.least_ns, incident.most_ns) == (59 * 60 * 10**9, None)
    assert (incident.first.cause, incident.first.reason) == ("chat.status_is_200", "it was down")


@pytest.mark.parametrize("state", ["inconclusive", "payment"])
def test_nothing_conclusive(make_history: MakeHistory, round_at: RoundAt, state: str) -> None:
    """Probes that say nothing make no availability, neither up nor down, and no incident."""
    report = report_of(make_history([round_at(60 * n, state) for n in range(60)]), 1)
    (row,) = report.availability
    assert (getattr(row.counts, state), row.counts.conclusive, row.counts.share.value) == (60, 0, None)
    assert report.incidents == []
    assert report.standings[0].met is None
    assert all(burn.rate is None for burn in report.standings[0].burns.values())
    assert row.unknown_s == 0


def test_degraded_counts_as_available(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Degraded probes are available, and what made them so is counted by its assertion."""
    rounds = [round_at(60 * n, "degraded" if n % 4 == 0 else "up", cause="slow") for n in range(60)]
    report = report_of(make_history(rounds), 1)
    assert report.availability[0].counts.share.value == 1
    assert [(one.state, one.cause, one.rounds) for one in report.causes] == [("degraded", "chat.slow", 15)]


def test_an_incident_has_bounds(make_history: MakeHistory, round_at: RoundAt) -> None:
    """It lasted from bad probe to bad probe at least, from good to good at most; the inconclusive bound nothing."""
    states = dict.fromkeys(range(60), "up") | {9: "inconclusive", 10: "down", 11: "inconclusive", 12: "down"}
    states |= {13: "payment", 40: "down"}
    report = report_of(make_history([round_at(60 * n, state) for n, state in states.items()]), 1)
    first, second = report.incidents
    assert (first.start_unix_ns, first.end_unix_ns, first.failed) == (at(600), at(840), 2)
    assert first.outages[0].last_good_unix_ns == at(480)
    assert (first.least_ns, first.most_ns) == (120 * 10**9, 360 * 10**9)
    assert (second.start_unix_ns, second.least_ns, second.most_ns) == (at(2400), 0, 120 * 10**9)
    assert {incident.scope for incident in report.incidents} == {"only"}


def test_maintenance_stands_apart(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Failures in maintenance are in no figure but their own; an incident goes on across it until a good probe."""
    rounds = [
        round_at(60 * n, "down" if 5 <= n < 25 else "up", maintenance="upgrade" if 10 <= n < 20 else None)
        for n in range(60)
    ]
    report = report_of(make_history(rounds), 1)
    counts = report.availability[0].counts
    assert (counts.down, counts.maintenance, counts.maintenance_down, counts.up) == (10, 10, 10, 40)
    assert counts.share.value == 40 / 50
    (incident,) = report.incidents
    assert (incident.start_unix_ns, incident.end_unix_ns, incident.failed) == (at(300), at(1500), 10)
    (stretch,) = report.maintenance
    assert (stretch.name, stretch.rounds, stretch.down) == ("upgrade", 10, 10)
    assert (stretch.first_unix_ns, stretch.last_unix_ns) == (at(600), at(1140))


def test_a_good_probe_in_maintenance_ends_an_incident(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Up is up, in maintenance too; a failure that is only in maintenance is no incident."""
    rounds = [
        round_at(60 * n, "down" if n in (5, 6, 8) else "up", maintenance="m" if n >= 7 else None) for n in range(12)
    ]
    (incident,) = report_of(make_history(rounds), 0.2).incidents
    assert (incident.start_unix_ns, incident.end_unix_ns, incident.failed) == (at(300), at(420), 2)


def test_gaps_are_neither_up_nor_down(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Time without a probe is told with its ends and the probes missed, and changes no availability."""
    rounds = [round_at(60 * n) for n in range(60) if not 20 <= n < 40]
    report = report_of(make_history(rounds), 1)
    (gap,) = report.gaps
    assert (gap.start_unix_ns, gap.end_unix_ns, gap.missed, gap.why) == (at(1200), at(2400), 20, "between")
    (row,) = report.availability
    assert (row.unknown_s, row.missed, row.counts.conclusive, row.counts.share.value) == (1200, 20, 40, 1)


def test_a_probe_that_stopped(make_history: MakeHistory, round_at: RoundAt) -> None:
    """A monitor that went silent is seen: the time since its last probe is unwatched."""
    report = report_of(make_history([round_at(60 * n) for n in range(30)]), 10)
    (gap,) = report.gaps
    assert (gap.start_unix_ns, gap.end_unix_ns, gap.why) == (at(1800), at(10 * HOUR), "after")


def test_another_interval_is_no_gap(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Where the configuration changed from a probe a minute to one every ten, nothing is missing."""
    rounds = [round_at(60 * n) for n in range(60)] + [round_at(HOUR + 600 * n) for n in range(60)]
    assert report_of(make_history(rounds), 11).gaps == []


def test_jitter_and_a_late_probe_are_no_gap(make_history: MakeHistory, round_at: RoundAt) -> None:
    """A probe that comes one interval late leaves no gap; one that comes two late does."""
    generator = random.Random(1)
    times = [60 * n + generator.uniform(0, 20) for n in range(180) if n not in (30, 100, 101)]
    gaps = report_of(make_history([round_at(seconds) for seconds in times]), 3).gaps
    assert [gap.missed for gap in gaps] == [2]


def test_two_locations(make_history: MakeHistory, round_at: RoundAt) -> None:
    """An outage seen from everywhere and one seen from one place only are told apart; counts add up."""
    rounds = []
    for shift, location in ((0, "fra"), (30, "nyc")):
        for n in range(60):
            bad = 10 <= n < 15 or (location == "nyc" and 40 <= n < 43)
            rounds.append(round_at(60 * n + shift, "down" if bad else "up", location=location))
    report = report_of(make_history(rounds), 1)
    both, one = report.incidents
    assert (both.scope, both.locations, both.well, both.failed) == ("all", ("fra", "nyc"), (), 10)
    assert (both.start_unix_ns, both.end_unix_ns) == (at(600), at(930))
    assert (both.least_ns, both.most_ns) == ((14 * 60 + 30 - 600) * 10**9, (930 - 540) * 10**9)
    assert (one.scope, one.locations, one.well, one.failed) == ("some", ("nyc",), ("fra",), 3)
    rows = {(row.location, row.pooled): row.counts.down for row in report.availability}
    assert rows == {(None, True): 13, ("fra", False): 5, ("nyc", False): 8}
    assert report.overall == [standing for standing in report.standings if standing.pooled]
    assert report.overall[0].interval_s == 30
    assert {row.target: row.counts.down for row in report.days} == {"here": 13}


def test_unwatched_by_all_locations(make_history: MakeHistory, round_at: RoundAt) -> None:
    """For all locations together only that time is unwatched in which none of them looked."""
    rounds = [round_at(60 * n, location="fra") for n in range(60) if not 10 <= n < 30]
    rounds += [round_at(60 * n, location="nyc") for n in range(60) if not 20 <= n < 40]
    rows = {row.location or "all": row.unknown_s for row in report_of(make_history(rounds), 1).availability}
    assert rows == {"all": 600, "fra": 1200, "nyc": 1200}


def test_roll_ups_only(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Where rounds are gone the counts are the same, and incidents are told by their hours."""
    rounds = [round_at(60 * n, "down" if 60 <= n < 64 or n == 130 else "up") for n in range(300)]
    rounds += [round_at(60 * n, "down", maintenance="m") for n in range(300, 360)]
    whole, rolled = report_of(make_history(rounds), 6), report_of(make_history(rounds, forget_s=DAY), 6)
    assert rolled.availability[0].counts == whole.availability[0].counts
    assert rolled.availability[0].unknown_s == 0
    assert rolled.standings[0].allowed == whole.standings[0].allowed
    assert rolled.now[0].state is None
    assert [(one.failed, one.first.hourly, one.start_unix_ns, one.end_unix_ns) for one in rolled.incidents] == [
        (5, True, at(HOUR), at(3 * HOUR))
    ]
    assert rolled.incidents[0].first.cause == "chat.status_is_200"
    assert (rolled.incidents[0].least_ns, rolled.incidents[0].most_ns) == (0, 2 * HOUR * 10**9)


@pytest.mark.parametrize("forget_s", [2.5 * HOUR, 3 * HOUR, 3.99 * HOUR])
def test_roll_ups_and_rounds_together(make_history: MakeHistory, round_at: RoundAt, forget_s: float) -> None:
    """Wherever retention cuts, each round is counted once."""
    rounds = [round_at(60 * n + 7, "down" if n % 7 == 0 else "up") for n in range(360)]
    whole, mixed = report_of(make_history(rounds), 6), report_of(make_history(rounds, forget_s=forget_s), 6)
    assert mixed.availability[0].counts == whole.availability[0].counts
    assert mixed.gaps == []
    assert sum(one.rounds for one in mixed.causes) == sum(one.rounds for one in whole.causes) == 52


def test_an_hour_that_counts_too_few_was_not_watched_whole(make_history: MakeHistory, round_at: RoundAt) -> None:
    """A gap inside an hour that is rolled up is known by the hour's count."""
    rounds = [round_at(60 * n) for n in range(180) if not 80 <= n < 100]
    report = report_of(make_history(rounds, forget_s=DAY), 3)
    assert [(gap.why, gap.missed) for gap in report.gaps] == [("hours", 20)]
    assert report.availability[0].unknown_s == 1200


def test_days_are_those_of_utc(make_history: MakeHistory, round_at: RoundAt, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's time zone and its summer time move nothing: a round at 23:59:59 UTC is of that day."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        # The night in which Berlin sets its clocks back.
        night = (datetime(2026, 10, 25, tzinfo=UTC) - ORIGIN).total_seconds()
        rounds = [round_at(night + seconds, "down") for seconds in (-1, 0, 2 * HOUR, DAY - 1)]
        rounds += [round_at(night + HOUR * n) for n in range(-24, 48)]
        report = report_of(make_history(rounds), night / HOUR + 48, since_h=night / HOUR - 24)
        days = {datetime.fromtimestamp(row.since_unix_ns / 1e9, UTC).day: row.counts for row in report.days}
        assert {day: (counts.down, counts.up) for day, counts in days.items()} == {
            24: (1, 24),
            25: (3, 24),
            26: (0, 24),
        }
        assert all(row.until_unix_ns - row.since_unix_ns == DAY * 10**9 for row in report.days)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


def test_edges_of_the_window(make_history: MakeHistory, round_at: RoundAt) -> None:
    """A round at `since` counts, one at `until` does not."""
    report = report_of(make_history([round_at(seconds) for seconds in (-1, 0, 60, 120)]), 120 / HOUR)
    assert report.availability[0].counts.up == 2


def test_windows_without_a_length_or_a_zone_are_refused(make_history: MakeHistory) -> None:
    """A window that ends before it begins, or times without a zone, are the caller's mistake."""
    url = make_history()
    with pytest.raises(ValueError, match="before"):
        report_of(url, 0)
    with pytest.raises(ValueError, match="zone"):
        uptime_report(url, since=datetime(2026, 9, 1))
    with pytest.raises(ValueError, match="objective"):
        Objective(availability=1.5)


def test_almost_no_data_judges_nothing(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Minutes of a window of 30 days neither meet nor miss an objective, and make no burn rate."""
    for count in (1, 15):
        url = make_history([round_at(30 * DAY - 60 * (count - n), "down") for n in range(count)])
        (standing,) = report_of(url, 720, objectives=Objective(interval_s=60.0)).standings
        assert (standing.met, standing.enough, standing.whole) == (None, False, False)
        assert standing.allowed == pytest.approx(0.005 * 43_200, rel=0.001)
        assert {burn.rate for burn in standing.burns.values()} == {None}


def test_the_budget_is_that_of_the_whole_window(make_history: MakeHistory, round_at: RoundAt) -> None:
    """What would have fallen before the first probe counts in the budget: 10 failures leave most of it."""
    url = make_history([round_at(30 * DAY - 7_200 + 60 * n, "down" if n < 10 else "up") for n in range(120)])
    (standing,) = report_of(url, 720).standings
    assert (standing.met, standing.whole, standing.known_s) == (True, False, 7_200)
    assert standing.left == pytest.approx(216 - 10, abs=0.1)
    assert standing.burns["6 h"].rate is None


def test_cause_and_reason_are_of_one_failure(make_history: MakeHistory, round_at: RoundAt) -> None:
    """An incident has the cause and the reason of its first failed probe; what decided later is named apart."""
    rounds = [round_at(60 * n) for n in range(10)]
    rounds += [round_at(600, "down", cause_check="tls", cause="connects", reason="refused")]
    rounds += [round_at(600 + 60 * n, "down", reason="500 came") for n in range(1, 5)]
    (incident,) = report_of(make_history(rounds), 0.25).incidents
    first = incident.first
    assert (first.cause, first.reason, first.later) == ("tls.connects", "refused", ("chat.status_is_200",))


@pytest.mark.parametrize("between", ["inconclusive", "payment"])
def test_since_goes_on_through_what_says_nothing(make_history: MakeHistory, round_at: RoundAt, between: str) -> None:
    """A target is down since the first failed probe, whatever said nothing in between."""
    states = ["up", "down", "up", "down", between, "down"]
    for count, since in ((6, 180), (5, 240), (4, 180), (3, 120)):
        report = report_of(make_history([round_at(60 * n, state) for n, state in enumerate(states[:count])]), 1)
        assert report.now[0].since_unix_ns == at(since), count


def test_an_objective_of_all(make_history: MakeHistory, round_at: RoundAt) -> None:
    """At 100 % there is no budget and no burn rate, and one failure misses it."""
    states = ["up"] * 59 + ["down"]
    url = make_history([round_at(60 * n, state) for n, state in enumerate(states)])
    (standing,) = report_of(url, 1, objectives=Objective(availability=1.0)).standings
    assert (standing.met, standing.left_share, standing.burns["1 h"].rate) == (False, None, None)
    assert report_of(url, 59 / 60, objectives=Objective(availability=1.0)).standings[0].met is True


def test_the_budget_to_its_last_probe(make_history: MakeHistory, round_at: RoundAt) -> None:
    """5 failures of 1,000 keep 99.5 %, 6 do not: no rounding decides."""
    for failures, met in ((5, True), (6, False)):
        rounds = [round_at(60 * n, "down" if n < failures else "up") for n in range(1000)]
        standing = report_of(make_history(rounds), 1000 / 60).standings[0]
        assert standing.met is met
        assert standing.allowed == pytest.approx(5)


def test_a_shorter_objective_is_judged_over_its_own_window(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Of a report of 10 days an objective of 2 days looks at the last two only."""
    rounds = [round_at(HOUR * n, "down" if n < 100 else "up") for n in range(240)]
    report = report_of(make_history(rounds), 240, objectives=Objective(window_s=2 * DAY))
    assert (report.standings[0].met, report.standings[0].counts.up, report.standings[0].counts.down) == (True, 48, 0)
    windows = {row.window: (row.counts.down, row.counts.up) for row in report.availability}
    assert windows == {"all": (100, 140), "objective": (0, 48), "7 d": (28, 140), "24 h": (0, 24)}


def test_targets_and_locations_are_chosen(make_history: MakeHistory, round_at: RoundAt) -> None:
    """A report may be about some targets and locations only."""
    rounds = [
        round_at(60 * n, target=target, location=location)
        for n in range(10)
        for target in ("a", "b")
        for location in ("x", "y")
    ]
    report = report_of(make_history(rounds), 1, targets=["b"], locations=["y"])
    assert [(now.target, now.location, now.rounds) for now in report.now] == [("b", "y", 10)]


def _answered(at_s: float, round_at: RoundAt, ttft_ms: float, state: Any = "up", **columns: Any) -> RoundRow:
    phases = {"connect": 10**6, "first_token": round(ttft_ms * 1e6), "total": round(ttft_ms * 2e6)}
    spent: dict[str, Any] = {"requests": 1, "tokens": 30, "cost": 0.001}
    start = at(at_s)
    stream = ResultRow(check="stream", state=state, started_unix_ns=start, phases_ns=phases, **spent)
    chat = ResultRow(check="chat", state=state, started_unix_ns=start, phases_ns={"total": 5 * 10**8}, **spent)
    return round_at(at_s, state, results=(stream, chat), **columns)


def test_latency_from_each_probe(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Percentiles of the good answers of each day are numpy's; failures and maintenance are in none of them."""
    generator = np.random.default_rng(2)
    days = [generator.lognormal(6, 0.5, 200) for _ in range(4)]
    rounds = [
        _answered(number * DAY + 60 * n, round_at, ms) for number, day in enumerate(days) for n, ms in enumerate(day)
    ]
    rounds += [_answered(40_000 + n, round_at, 60_000, "down") for n in range(50)]
    rounds += [_answered(50_000 + n, round_at, 60_000, maintenance="m") for n in range(50)]
    report = report_of(make_history(rounds), 96)
    rows = [row for row in report.durations if row.quantity == "TTFT"]
    assert [(row.count, row.source) for row in rows] == [(200, "rounds")] * 4
    for row, day in zip(rows, days, strict=True):
        assert (row.p50_s, row.p95_s) == pytest.approx(tuple(np.percentile(day, [50, 95]) / 1000), rel=1e-6)
    assert {row.quantity for row in report.durations} == {"TTFT", "stream, total", "chat, total", "connect"}


def test_latency_from_roll_ups(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Where rounds are gone, or too many to be read, percentiles come from histograms within 3.1 %, and say so."""
    values = np.random.default_rng(3).lognormal(6, 0.5, 480)
    rounds = [_answered(180 * n, round_at, ms) for n, ms in enumerate(values)]
    rounds += [_answered(180 * n + 1, round_at, 60_000, "down") for n in range(100)]
    exact = np.percentile(values, [50, 95]) / 1000
    gone = report_of(make_history(rounds, forget_s=DAY), 96)
    many = report_of(make_history(rounds), 96, most_in_full=100)
    part = report_of(make_history(rounds, forget_s=DAY / 2), 96)
    for report, source in ((gone, "roll-ups"), (many, "roll-ups"), (part, "both")):
        (row,) = [row for row in report.durations if row.quantity == "TTFT"]
        assert (row.count, row.source) == (480, source)
        assert (row.p50_s, row.p95_s) == pytest.approx(tuple(exact), rel=0.032)


def test_a_percentile_needs_samples(make_history: MakeHistory, round_at: RoundAt) -> None:
    """With fewer than five samples beyond it a percentile is withheld: of 60 there is a median and no p95."""
    report = report_of(make_history([_answered(60 * n, round_at, 500) for n in range(60)]), 1)
    (row,) = [row for row in report.durations if row.quantity == "TTFT"]
    assert report.step_ns == HOUR * 10**9
    assert (row.count, row.p95_s) == (60, None)
    assert row.p50_s == pytest.approx(0.5)


def test_what_was_spent(make_history: MakeHistory, round_at: RoundAt) -> None:
    """Requests, tokens and cost are added up by day and target, rolled up or not."""
    rounds = [_answered(600 * n, round_at, 500) for n in range(288)]
    for forget_s in (None, DAY, 1.5 * DAY):
        report = report_of(make_history(rounds, forget_s=forget_s), 48)
        spent = [(one.requests, one.tokens, round(one.cost or 0, 6)) for one in report.spends]
        assert spent == [(288, 8640, 0.288)] * 2


def _plain(rounds: list[RoundRow], since_ns: int, until_ns: int) -> dict[str, Any]:
    """The counts and incidents of one target and location, the slow and obvious way."""
    ordered = sorted(
        (one for one in rounds if since_ns <= one.started_unix_ns < until_ns), key=lambda one: one.started_unix_ns
    )
    counts = Counter(one.state for one in ordered if one.maintenance is None)
    incidents: list[list[Any]] = []
    good: int | None = None
    bad: list[int] = []
    for one in ordered:
        if one.state in ("up", "degraded"):
            if bad:
                incidents.append([bad[0], bad[-1], len(bad), good, one.started_unix_ns])
            good, bad = one.started_unix_ns, []
        elif one.state == "down" and one.maintenance is None:
            bad.append(one.started_unix_ns)
    if bad:
        incidents.append([bad[0], bad[-1], len(bad), good, None])
    return {"counts": counts, "incidents": incidents}


@pytest.mark.parametrize("seed", range(12))
def test_random_histories_against_a_plain_recount(make_history: MakeHistory, round_at: RoundAt, seed: int) -> None:
    """Counts, shares, burn rates, days and incidents of random histories are those of a loop over the rounds."""
    generator = random.Random(seed)
    rounds, seconds, state = [], 0.0, "up"
    while seconds < 5 * DAY:
        seconds += 600 + generator.uniform(-100, 100) + (generator.random() < 0.01) * generator.uniform(0, 30_000)
        if generator.random() < 0.2:
            state = generator.choices(STATES, [10, 2, 2, 1, 3])[0]
        window = "m" if generator.random() < 0.05 else None
        rounds.append(round_at(seconds, state, maintenance=window))
    goal = generator.choice([0.9, 0.99, 0.995])
    report = report_of(make_history(rounds), 120, since_h=1, objectives=Objective(availability=goal))
    since, until = at(HOUR), at(5 * DAY)
    plain = _plain(rounds, since, until)
    (whole, *_) = report.availability
    assert {name: getattr(whole.counts, name) for name in STATES} == {name: plain["counts"][name] for name in STATES}
    conclusive = sum(plain["counts"][name] for name in ("up", "degraded", "down"))
    figure = fraction(conclusive - plain["counts"]["down"], conclusive)
    assert (whole.counts.share.value, whole.counts.share.low, whole.counts.share.high) == (
        figure.value,
        figure.low,
        figure.high,
    )
    (standing,) = report.standings
    for name, length in (("1 h", HOUR), ("6 h", 6 * HOUR), ("24 h", DAY)):
        recent = _plain(rounds, until - length * 10**9, until)["counts"]
        total = sum(recent[state] for state in ("up", "degraded", "down"))
        expected = recent["down"] / total / (1 - goal) if total else None
        if standing.burns[name].rate is None:
            assert sum(recent.values()) <= 0.6 * length / 600 or not total
        else:
            assert standing.burns[name].rate == pytest.approx(expected)
    found = [
        [one.start_unix_ns, one.first.last_bad_unix_ns, one.failed, one.first.last_good_unix_ns, one.end_unix_ns]
        for one in report.incidents
    ]
    assert found == plain["incidents"]
    for row in report.days:
        day = _plain(rounds, row.since_unix_ns, row.until_unix_ns)["counts"]
        assert {name: getattr(row.counts, name) for name in STATES} == {name: day[name] for name in STATES}
    unwatched = sum(row.unknown_s for row in report.days)
    assert unwatched == pytest.approx(whole.unknown_s)


def test_frames_are_the_tables(make_history: MakeHistory, round_at: RoundAt) -> None:
    """The frames hold what the JSON holds, row by row."""
    report = report_of(make_history([_answered(60 * n, round_at, 500) for n in range(60)]), 1)
    frames = report.frames()
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert {name: len(frame) for name, frame in frames.items()} == {
        name: len(rows) for name, rows in data.items() if isinstance(rows, list)
    }
    assert frames["availability"].loc[0, "availability"] == 1.0


@pytest.mark.parametrize("days", [6, pytest.param(30, marks=pytest.mark.slow)])
def test_a_month_of_a_probe_a_minute(make_history: MakeHistory, round_at: RoundAt, days: int) -> None:
    """43,200 probes are reported in seconds, exactly; in the quick suite a fifth of them."""
    probes = days * 1440
    bad = set(random.Random(5).sample(range(probes), 100))
    url = make_history([round_at(60 * n, "down" if n in bad else "up") for n in range(probes)], forget_s=0)
    began = time.process_time()
    report = report_of(url, days * 24)
    took = time.process_time() - began
    assert (report.availability[0].counts.up, report.availability[0].counts.down) == (probes - 100, 100)
    assert sum(one.failed for one in report.incidents) == 100
    assert report.gaps == []
    assert took < 40, f"{took:.1f} s of {os.cpu_count()} cores"
