"""Runs and histories made by hand: fixtures that write real ones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from jsonschema.exceptions import best_match

from tensorix_records import RequestRecord, Run
from tensorix_records._schema import COLUMNS, row_of_record
from tensorix_records.history import History, RoundRow
from tensorix_reports.comparison import Comparison, comparison_schema
from tensorix_reports.load import LoadReport, summary_schema, write_report

ORIGIN_NS = 1_790_000_000_000_000_000
"""The start of every made-up run: 2026-09-21 14:13:20 UTC, 40 s before a full minute."""


def _validity(text: str, name: str) -> Callable[[Any], None]:
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    def check(written: Any) -> None:
        # As it is read again: a tuple is an array there.
        error = best_match(validator.iter_errors(json.loads(json.dumps(written))))
        assert error is None, f"{name}.json at {error.json_path}: {error.message}: see {name}.schema.json"

    return check


@pytest.fixture(scope="session")
def valid_summary() -> Callable[[Any], None]:
    """Fail where a summary is not as its schema says."""
    return _validity(summary_schema(), "summary")


@pytest.fixture(scope="session")
def valid_comparison() -> Callable[[Any], None]:
    """Fail where a comparison is not as its schema says."""
    return _validity(comparison_schema(), "compare")


@pytest.fixture(scope="session", autouse=True)
def all_that_is_written_is_valid(
    valid_summary: Callable[[Any], None], valid_comparison: Callable[[Any], None]
) -> Iterator[None]:
    """Hold every summary and comparison that a test of the reports makes against the schema that is published."""
    summed_up, compared = LoadReport.to_dict, Comparison.to_dict

    def summary(self: LoadReport) -> dict[str, Any]:
        made = summed_up(self)
        valid_summary(made)
        return made

    def comparison(self: Comparison) -> dict[str, Any]:
        made = compared(self)
        valid_comparison(made)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoadReport, "to_dict", summary)
        patch.setattr(Comparison, "to_dict", comparison)
        yield


def a_request(number: int, at_s: float, **columns: Any) -> RequestRecord:
    """A streamed chat request that succeeded: headers after 20 ms, 11 tokens from 100 ms on, 10 ms apart."""
    row: dict[str, Any] = {
        "run_id": "run",
        "record_id": f"r{number}",
        "request_id": f"q{number}",
        "key_alias": "key-1",
        "endpoint": "/chat/completions",
        "stream": True,
        "model_requested": "deepseek/deepseek-chat-v3.1",
        "start_unix_ns": ORIGIN_NS + round(at_s * 1e9),
        "request_sent_at_ns": 50_000,
        "headers_at_ns": 20_000_000,
        "first_chunk_at_ns": 90_000_000,
        "first_token_at_ns": 100_000_000,
        "first_output_at_ns": 100_000_000,
        "last_token_at_ns": 200_000_000,
        "end_at_ns": 201_000_000,
        "stamp_source": "kernel",
        "lag_first_token_ns": 40_000,
        "lag_max_ns": 90_000,
        "chunks_in_first_read": 1,
        "max_chunks_in_a_read": 1,
        "chunks": 11,
        "done_seen": True,
        "outcome": "success",
        "stream_outcome": "completed",
        "status": 200,
        "finish_reason": "stop",
        "prompt_tokens": 20,
        "completion_tokens": 11,
        "token_source": "usage",
    }
    if columns.get("status") == 429:
        stream = (
            "first_chunk_at_ns first_token_at_ns first_output_at_ns last_token_at_ns chunks done_seen stream_outcome"
        )
        lags = "lag_first_token_ns lag_max_ns chunks_in_first_read max_chunks_in_a_read"
        gone = f"{stream} {lags} finish_reason prompt_tokens completion_tokens token_source".split()
        row |= dict.fromkeys(gone) | {"outcome": "throttled", "error_kind": "rate_limited", "error_phase": "headers"}
        row |= {"headers_at_ns": 5_000_000, "end_at_ns": 5_000_000, "error_message": "Rate limit exceeded"}
    row |= columns
    known = {field.name for field in dataclasses.fields(RequestRecord)}
    assert set(row) <= known, f"no such columns: {set(row) - known}"
    return RequestRecord(**row)


@pytest.fixture(scope="session")
def request_at() -> Callable[..., RequestRecord]:
    """The maker of made-up requests."""
    return a_request


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a run folder: records, events (`(seconds, name, fields)`), the manifest's entries; ended unless told."""

    def make(
        records: Iterable[RequestRecord] = (),
        events: Iterable[tuple[float, str, dict[str, Any]]] = (),
        *,
        ended_s: float | None = 60.0,
        **manifest: Any,
    ) -> Path:
        entries: dict[str, Any] = {
            "run_id": "run",
            "kind": "load",
            "started_unix_ns": ORIGIN_NS,
            "limits": {"requests": 60, "tokens": 2_000_000, "window_s": 60.0, "told": []},
            "asked": {"base_url": "http://127.0.0.1:9/v1", "model": "deepseek/deepseek-chat-v3.1", "users": 4},
        }
        run = Run.create(tmp_path_factory.mktemp("run") / "run", entries | manifest)
        now = [ORIGIN_NS]
        writer = run.writer("p1", now_unix_ns=lambda: now[0])
        for record in records:
            writer.add(record)
        for at_s, name, fields in events:
            now[0] = ORIGIN_NS + round(at_s * 1e9)
            writer.event(name, **fields)
        writer.flush()
        writer.close()
        if ended_s is not None:
            run.update_manifest(ended_unix_ns=ORIGIN_NS + round(ended_s * 1e9), end_reason="duration")
        return run.path

    return make


@pytest.fixture(scope="session")
def mixed(request_at: Callable[..., RequestRecord]) -> Callable[..., list[RequestRecord]]:
    """A run of everything: streamed and not, lists, 429s, failures, n above 1, two sources of tokens."""

    def make(count: int, seed: int, *, scheduled: bool = False, **same: Any) -> list[RequestRecord]:
        rng = np.random.default_rng(seed)
        records = []
        for number in range(count):
            at_s = float(rng.uniform(0, 50))
            first = int(rng.lognormal(18.5, 0.6))
            tokens = int(rng.integers(1, 60))
            last = first + (tokens - 1) * int(rng.integers(5_000_000, 400_000_000)) // 10
            columns: dict[str, Any] = {
                "first_token_at_ns": first,
                "first_output_at_ns": first + int(rng.integers(0, 2) * 5_000_000),
                "last_token_at_ns": last + 5_000_000,
                "end_at_ns": last + 6_000_000,
                "completion_tokens": tokens,
                "token_source": "usage" if rng.random() < 0.7 else "chunks",
                "lag_first_token_ns": int(rng.integers(1_000, 9_000_000)),
                "n": 2 if rng.random() < 0.05 else None,
                "reasoning_tokens": 5 if rng.random() < 0.1 else None,
            }
            draw = rng.random()
            if draw < 0.1:
                columns = {"status": 429}
            elif draw < 0.2:
                columns |= {"outcome": "failed", "status": 503, "error_kind": "server_error", "error_phase": "headers"}
            elif draw < 0.4:
                gone = "first_chunk_at_ns first_token_at_ns first_output_at_ns last_token_at_ns lag_first_token_ns"
                columns |= {"stream": False, **dict.fromkeys(gone.split())}
            elif draw < 0.5:
                gone = (
                    "stream first_chunk_at_ns first_token_at_ns first_output_at_ns last_token_at_ns completion_tokens"
                )
                gone += " lag_first_token_ns token_source prompt_tokens"
                columns |= {**dict.fromkeys(gone.split()), "endpoint": "/models", "model_requested": None}
            if scheduled:
                own = int(rng.integers(10_000, 900_000))
                columns |= {"user_ready_at_ns": -own, "intended_at_ns": -own - int(rng.integers(0, 80_000_000))}
                columns |= {"schedule_index": number}
            records.append(request_at(number, at_s, **columns, **same))
        return records

    return make


@pytest.fixture(scope="session")
def summed_up(make_run: Callable[..., Path]) -> Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Write a run and report it: its raw columns, a dictionary a request in the order of their starts, and summary."""

    def make(records: Iterable[RequestRecord], *args: Any, **manifest: Any) -> Any:
        records = list(records)
        rows = [dict(zip(COLUMNS, row_of_record(record), strict=True)) for record in records]
        path = make_run(records, *args, **manifest)
        summary = json.loads(write_report(path, formats=["json"]).summary.read_text("utf-8"))
        return sorted(rows, key=lambda row: int(row["start_unix_ns"])), summary

    return make


HISTORY_NS = 1_790_035_200_000_000_000
"""The origin of every made-up history: 2026-09-22 00:00:00 UTC."""

_NUMBERS = count()


@pytest.fixture(scope="session")
def round_at() -> Callable[..., RoundRow]:
    """The maker of made-up rounds: `round_at(60, "down", location="fra")` is one a minute after the origin."""

    def make(at_s: float, state: str = "up", **columns: Any) -> RoundRow:
        row: dict[str, Any] = {"round_id": f"r{next(_NUMBERS)}", "target": "here", "state": state}
        row |= {"started_unix_ns": HISTORY_NS + round(at_s * 1e9), "duration_ns": 10**9}
        if state != "up":
            row |= {"cause_check": "chat", "cause": "status_is_200", "reason": f"it was {state}"}
        return RoundRow(**(row | columns))

    return make


@pytest.fixture(scope="session")
def make_history(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Write rounds into a real history, and give its name; those before `forget_s` are rolled up and forgotten."""

    def make(rounds: Iterable[RoundRow] = (), *, forget_s: float | None = None) -> str:
        path = str(tmp_path_factory.mktemp("history") / "history.sqlite")
        with History.open(path) as history:
            history.append(list(rounds))
            if forget_s is not None:
                long_s = 400 * 86_400
                now = HISTORY_NS + long_s * 10**9
                history.maintain(now, keep_results_s=long_s - forget_s, keep_hours_s=10 * long_s)
        return path

    return make
