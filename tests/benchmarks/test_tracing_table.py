"""The table that sets our tracing beside others': our own column, and how a cell is judged."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def comparing(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the script defines, with its folder on the path as where it is run."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return runpy.run_path(str(BENCHMARKS / "tracing_table.py"))


def test_ours_tells_every_case_rightly(tmp_path: Path, subprocess_environment: dict[str, str]) -> None:
    """Each call of the table, made to the simulator in a process of its own, is told as its row asks."""
    done = subprocess.run(
        [
            sys.executable,
            str(BENCHMARKS / "tracing_table.py"),
            "--only",
            "ours",
            "--json",
            str(tmp_path / "table.json"),
        ],
        env=subprocess_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 20
    assert [row for row, cells in rows.items() if not cells["ours"]["right"]] == []


def _span(status: str = "UNSET", ended: Any = True, **attributes: Any) -> dict[str, Any]:
    return {
        "name": "chat",
        "kind": "CLIENT",
        "status": status,
        "ended": ended,
        "duration_s": 0.5 if ended else None,
        "parent": None,
        "id": 1,
        "attributes": attributes,
        "events": [],
    }


def _told(*spans: dict[str, Any], raised: str | None = None, **seen: Any) -> dict[str, Any]:
    return {
        "seen": seen,
        "raised": raised,
        "open": sum(not span["ended"] for span in spans),
        "spans": list(spans),
        "metrics": {},
    }


def _ending(word: str, **attributes: Any) -> dict[str, Any]:
    return _told(_span(**{"tensorix.stream.outcome": word}, **attributes))


@pytest.fixture
def observed() -> dict[str, dict[str, Any]]:
    """Every case told rightly."""
    outcomes = {
        "closed": "closed_early",
        "left_with": "closed_early",
        "abandoned": "abandoned",
        "cancelled": "cancelled",
    }
    defects = {"cut_by_reset": "cut", "cut_by_end": "cut", "error_event": "error_event", "malformed": "malformed"}
    told = {
        case: _ending(word) for case, word in {**outcomes, "cancelled": "cancelled", "completed": "completed"}.items()
    }
    for case, word in {**defects, "timed_out": "timeout"}.items():
        span = _span("ERROR", **{"tensorix.stream.outcome": word, "error.type": word})
        told[case] = _told(span, raised="APIError")
    told["cancelled_early"] = _told(_span(**{"error.type": "cancelled"}))
    told["whole"] = _told(_span(left=41), requests="41")
    told["first_token"] = _told(_span(first_chunk=0.01, first_token=0.41), first_chunk_s=0.01, first_token_s=0.4)
    told["streaming_response"] = _told(_span(), last_s=0.5)
    told["retried"] = _told(_span("ERROR", attempts=3), raised="APIError")
    told["many"] = _told(blocks_a_stream=0.5)
    return told


def test_what_is_told_rightly_is_right(comparing: dict[str, Any], observed: dict[str, Any]) -> None:
    """Every row accepts spans that say what happened, whatever their attributes are called."""
    assert [row for row, cell in comparing["judged"](observed).items() if not cell.right] == []


_CUT_AS_WHOLE = _told(_span(), raised="APIError")
_TWICE = _told(_span(), {**_span(), "id": 2})


@pytest.mark.parametrize(
    ("case", "told", "rows"),
    [
        ("completed", _told(), ["streamed, read to its end"]),
        ("completed", _TWICE, ["streamed, read to its end"]),
        ("cut_by_reset", _CUT_AS_WHOLE, ["cut in the middle, by a reset"]),
        ("cut_by_end", _told(_span("ERROR"), raised="APIError"), ["cut in the middle, by an end"]),
        ("error_event", _ending("cut"), ["error event in the middle"]),
        ("closed", _ending("completed"), ["consumer breaks, then closes"]),
        ("abandoned", _ending("closed_early"), [
            "consumer breaks, then closes", "consumer leaves the with", "abandoned, collected",
        ]),
        ("abandoned", _told(_span(ended=False)), ["abandoned, collected"]),
        ("cancelled", _told(_span("ERROR", **{"error.type": "CancelledError"})), ["task cancelled in the middle"]),
        ("first_token", _told(_span(first_chunk=0.01), first_chunk_s=0.01, first_token_s=0.4), ["time to first token"]),
        ("first_token", _told(_span(duration=0.4), first_chunk_s=0.01, first_token_s=0.4), [
            "time to first chunk", "time to first token",
        ]),
        ("streaming_response", _told(_span(), last_s=0.9), ["with_streaming_response"]),
        ("streaming_response", _told(_span(), raised="AttributeError"), ["with_streaming_response"]),
        ("retried", _told(_span("ERROR"), raised="APIError"), ["three attempts by the SDK's retry"]),
        ("whole", _told(_span(left=42), requests="41"), ["rate limit"]),
        ("whole", _told(_span(left=41, input="about xyzzy-plugh"), requests="41"), ["prompt captured unasked"]),
        ("whole", _told(_span(left=41, key="sk-subject-0123456789"), requests="41"), ["key captured"]),
        ("many", {**_told(blocks_a_stream=0.5), "open": 1}, ["300 streams abandoned, cut, cancelled"]),
        ("many", _told(blocks_a_stream=8.0), ["300 streams abandoned, cut, cancelled"]),
    ],
)  # fmt: skip
def test_what_is_told_wrongly_is_wrong(
    comparing: dict[str, Any], observed: dict[str, Any], case: str, told: dict[str, Any], rows: list[str]
) -> None:
    """A span that is missing, twice, open, of the wrong status or without its word is wrong in its row alone."""
    cells = comparing["judged"]({**observed, case: deepcopy(told)})
    assert [row for row, cell in cells.items() if not cell.right] == rows


def test_a_missing_peer_is_said(tmp_path: Path, subprocess_environment: dict[str, str]) -> None:
    """An instrumentation that is not installed is named with what installs it, and is no failure."""
    for name in ("tracing_table.py", "tracing_subject.py"):
        (tmp_path / name).write_text((BENCHMARKS / name).read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "tracing_table.py"), "--only", "openai-v2"],
        env=subprocess_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "openai-v2 is not installed: `make bench-peers`" in done.stdout
