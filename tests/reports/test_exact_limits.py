"""Windows, episodes, headers and Retry-After of a limiter that is played here: what it did is known of each request."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import pytest

from tensorix_records import RequestRecord

Rows = list[dict[str, Any]]
SummedUp = Callable[..., tuple[Rows, dict[str, Any]]]
WINDOW_S, LIMIT, ENDED_S = 10.0, 8, 118.0
HEADERS_S, REFUSAL_S = 0.02, 0.005


@dataclass
class Window:
    """What a window of the limiter saw."""

    start_s: float
    rows: Rows = field(default_factory=list)

    def count(self, *statuses: int | None) -> int:
        return sum(row["status"] in statuses for row in self.rows)


@dataclass
class Episode:
    """A stretch without budget."""

    spent_s: float
    sign: str
    refusals: Rows = field(default_factory=list)
    back_s: float | None = None


@dataclass
class Key:
    """A key's limiter: windows of 10 s, each opened by the first request after the last; 8 requests in each."""

    alias: str
    windows: list[Window] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)

    def asks(self, at_s: float, dice: np.random.Generator) -> dict[str, Any] | None:
        """Columns of the answer to a request at an instant; None so near an edge that nobody could tell the window."""
        if self.windows and abs(at_s - self.windows[-1].start_s - WINDOW_S) < 0.2:
            return None
        if not self.windows or at_s > self.windows[-1].start_s + WINDOW_S:
            self.windows.append(Window(at_s))
        window = self.windows[-1]
        used = window.count(200, 500)
        row: dict[str, Any] = {"at_s": at_s, "key_alias": self.alias, "limit_requests": LIMIT}
        if used >= LIMIT:
            row |= {"status": 429, "retry_after_ns": self._wait_ns(at_s, dice), "remaining_requests": 0}
        else:
            failed = dice.random() < 0.08
            row |= {"status": 500 if failed else 200, "outcome": "failed" if failed else "success"}
            row |= {"remaining_requests": LIMIT - used - 1, "prompt_tokens": int(dice.integers(1, 500))}
        if dice.random() < 0.3:
            # As a gateway that leaves its headers out at times.
            row["remaining_requests"] = None
        window.rows.append(row)
        self._tell(row)
        return row

    def _wait_ns(self, at_s: float, dice: np.random.Generator) -> int | None:
        """In whole seconds until the window ends; at times much too long, much too short, or nothing."""
        left = int(np.ceil(self.windows[-1].start_s + WINDOW_S - at_s - REFUSAL_S))
        wrong = dice.random()
        wait = None if wrong < 0.1 else left + 20 if wrong < 0.25 else 1 if wrong < 0.5 else left
        return None if wait is None else wait * 10**9

    def _tell(self, row: dict[str, Any]) -> None:
        """What the answers show of the budget."""
        last = self.episodes[-1] if self.episodes and self.episodes[-1].back_s is None else None
        if row["status"] == 429:
            if last is None:
                last = Episode(row["at_s"], "429")
                self.episodes.append(last)
            last.refusals.append(row)
        elif row["status"] == 200:
            if last is not None:
                last.back_s = row["at_s"]
            if row["remaining_requests"] == 0:
                self.episodes.append(Episode(row["at_s"] + HEADERS_S, "remaining 0"))


@pytest.fixture(scope="module")
def played(summed_up: SummedUp, request_at: Callable[..., RequestRecord]) -> tuple[list[Key], Rows, dict[str, Any]]:
    """Two minutes of two keys, one busy and one that often leaves its budget unused."""
    dice, records, keys = np.random.default_rng(3), [], [Key("busy"), Key("idle")]
    for key, pause_s in zip(keys, (0.3, 1.4), strict=True):
        at_s = 0.3
        while at_s < ENDED_S - 0.5:
            if (row := key.asks(at_s, dice)) is not None:
                records.append(request_at(len(records), **row))
            at_s += 0.25 + float(dice.exponential(pause_s))
    limits = {"requests": LIMIT, "tokens": None, "window_s": WINDOW_S, "told": ["requests", "window_s"]}
    rows, summary = summed_up(records, ended_s=ENDED_S, limits=limits)
    assert summary["run"]["origin_unix_ns"] == summary["run"]["started_unix_ns"]
    return keys, rows, summary["rate_limit"]


def _by_key(played: tuple[list[Key], Rows, dict[str, Any]]) -> Iterator[tuple[Key, dict[str, Any]]]:
    keys, _, told = played
    assert [one["key_alias"] for one in told["keys"]] == [key.alias for key in keys]
    yield from zip(keys, told["keys"], strict=True)


def test_windows(played: tuple[list[Key], Rows, dict[str, Any]]) -> None:
    """Each window of the limiter is there, with what was sent, passed, refused and used in it."""
    for key, told in _by_key(played):
        assert (told["windows_fit"], told["windows_doubts"], told["window_source"]) == (True, [], "told")
        assert len(told["windows"]) == len(key.windows) > 8
        for number, (window, one) in enumerate(zip(key.windows, told["windows"], strict=True), 1):
            assert one["number"] == number
            assert one["start_s"] == pytest.approx(window.start_s, abs=1e-6)
            assert one["end_s"] == pytest.approx(window.start_s + WINDOW_S, abs=1e-6)
            counts = (one["sent"], one["passed"], one["refused"], one["other"])
            assert counts == (len(window.rows), window.count(200), window.count(429), window.count(500))
            # Of those that passed: 11 tokens each, and their prompts.
            assert one["tokens"] == sum(row["prompt_tokens"] + 11 for row in window.rows if row["status"] == 200)
            assert one["bound_by"] == ("requests" if window.count(429) else None)
            cut = window is key.windows[-1] and window.start_s + WINDOW_S > ENDED_S
            assert one["complete"] is not cut
    assert {window.count(429) > 0 for key, _ in _by_key(played) for window in key.windows} == {True, False}


def test_episodes(played: tuple[list[Key], Rows, dict[str, Any]]) -> None:
    """Each stretch without budget begins with the answer that said so, and ends with the next request that passed."""
    signs: Counter[str] = Counter()
    for key, told in _by_key(played):
        assert len(told["episodes"]) == len(key.episodes)
        for episode, one in zip(key.episodes, told["episodes"], strict=True):
            signs[episode.sign] += 1
            assert one["spent_s"] == pytest.approx(episode.spent_s, abs=1e-6)
            assert (one["sign"], one["refused"]) == (episode.sign, len(episode.refusals))
            last = episode.refusals[-1]["at_s"] if episode.refusals else None
            length = None if episode.back_s is None else episode.back_s - episode.spent_s
            for name, value in (("last_refused_s", last), ("back_s", episode.back_s), ("length_s", length)):
                assert one[name] == (None if value is None else pytest.approx(value, abs=1e-6)), name
    assert min(signs["429"], signs["remaining 0"]) > 0


def test_retry_after(played: tuple[list[Key], Rows, dict[str, Any]]) -> None:
    """What refusals said is held against when a request passed, and against later refusals of the same stretch."""
    keys, _, told = played
    said, true, over, understated = [], [], [], 0
    for episode in (episode for key in keys for episode in key.episodes):
        for row in episode.refusals:
            if row["retry_after_ns"] is None:
                continue
            wait_s, seen_s = row["retry_after_ns"] / 1e9, row["at_s"] + REFUSAL_S
            said.append(wait_s)
            understated += seen_s + wait_s < episode.refusals[-1]["at_s"] - 0.05
            if episode.back_s is not None:
                true.append(episode.back_s - seen_s)
                # It says whole seconds.
                over += [wait_s - true[-1]] if wait_s > true[-1] + 1.05 else []
    assert min(len(over), understated) > 2
    assert told["retry_after"] == {
        "refusals": sum(len(episode.refusals) for key in keys for episode in key.episodes),
        "said": len(said),
        "compared": len(true),
        "said_median_s": pytest.approx(median(said)),
        "true_at_most_median_s": pytest.approx(median(true), abs=1e-6),
        "overstated": len(over),
        "overstated_by_most_s": pytest.approx(max(over), abs=1e-6),
        "understated": understated,
    }


def test_headers_and_limits(played: tuple[list[Key], Rows, dict[str, Any]]) -> None:
    """Each header is counted by the status of its response, and a limit that was told is that of the headers."""
    _, rows, told = played
    names = ("remaining_requests", "limit_requests", "retry_after_ns", "remaining_tokens")
    for one in told["headers"]:
        mine = [row for row in rows if row["status"] == one["status"]]
        assert (one["kind"], one["responses"]) == ("chat, streamed", len(mine))
        assert {name: one[name] for name in names} == {
            name: sum(row[name] is not None for row in mine) for name in names
        }
    assert {one["status"] for one in told["headers"]} == {200, 429, 500}
    assert (told["limit"]["requests"], told["limit"]["window_s"]) == (LIMIT, WINDOW_S)
    assert told["limit"]["stated_by_headers"]["requests"] == [LIMIT]


def test_a_length_that_was_measured(played: tuple[list[Key], Rows, dict[str, Any]]) -> None:
    """The bounds on the window's length hold the truth, and are no wider than two requests leave them."""
    for key, told in _by_key(played):
        if key.alias == "busy":
            low, high = told["window_measured_between_s"]
            assert low <= WINDOW_S <= high <= WINDOW_S + 1.0
