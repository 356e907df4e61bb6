"""Faults are read from text: what may be written, what it means, and what is said of anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorix_api.errors import SettingsError
from tensorix_cli._options import duration
from tensorix_simulator.distributions import Distribution
from tensorix_simulator.faults.fault_text import CLAUSES, FORMS, FaultKind, parse_fault, parse_header
from tensorix_simulator.limits.limit_text import read_limit
from tensorix_simulator.settings import SimulatorSettings


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("status 429", {"kind": "status", "status": 429}),
        ("status 500, rate 5%", {"rate": 0.05}),
        ("status 500 rate 2.5 %", {"rate": 0.025}),
        ("status 500, from 20s", {"from_ns": 20_000_000_000, "to_ns": None}),
        ("outage, from 20 s to 35 s", {"kind": "outage", "from_ns": 20_000_000_000, "to_ns": 35_000_000_000}),
        ("refuse from 1min to 1.5 min", {"from_ns": 60_000_000_000, "to_ns": 90_000_000_000}),
        ("reset,on chat,model z-ai/glm-5,rate 10%", {"on": "chat", "model": "z-ai/glm-5", "rate": 0.1}),
        ("status 503 on models", {"on": "models"}),
        ("status 503 from 1m to 1m30s", {"from_ns": 60_000_000_000, "to_ns": 90_000_000_000}),
        ("outage from 1d", {"from_ns": 86_400_000_000_000}),
        ("stall 30s before headers", {"kind": "stall", "where": "headers", "time_ns": 30_000_000_000}),
        ("stall 200ms before first token", {"where": "first token", "time_ns": 200_000_000}),
        ("stall 1h after 3 chunks", {"where": "chunks", "after": 3, "time_ns": 3_600_000_000_000}),
        ("cut", {"kind": "cut", "after": 1, "by_reset": False}),
        ("cut by reset", {"after": 1, "by_reset": True}),
        ("cut after 0 chunks", {"after": 0}),
        ("cut after 1 chunk by reset, from 1s", {"after": 1, "by_reset": True, "from_ns": 1_000_000_000}),
        ("malformed after 7 chunks", {"kind": "malformed", "after": 7}),
        ("error event", {"kind": "error event", "after": 1}),
        ("comments", {"kind": "comments", "time_ns": 0}),
        ("comments every 100ms", {"time_ns": 100_000_000}),
        ("slow reading 1000 bytes/s", {"kind": "slow reading", "bytes_per_s": 1000}),
        ("content length too short", {"kind": "content length", "where": "short"}),
        ("vanish z-ai/glm-5 from 20s", {"kind": "vanish", "name": "z-ai/glm-5", "from_ns": 20_000_000_000}),
        ("  out   of credit ,from 5s ", {"kind": "out of credit", "text": "out   of credit ,from 5s"}),
    ],
)
def test_what_a_text_means(text: str, fields: dict[str, Any]) -> None:
    """Kind, amounts and clauses, in any order, with or without commas."""
    fault = parse_fault(text)
    assert {name: getattr(fault, name) for name in fields} == fields


def test_every_kind_has_a_form() -> None:
    """The forms that a message and the command's help show are read as they stand, and leave out no kind."""
    assert {parse_fault(form).kind for form in FORMS} == set(FaultKind)
    for clause in CLAUSES:
        parse_fault(f"status 500, {clause}")


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "status", "status 200", "status 600", "status 5000", "statuses 500", "status 500 every day"),
        *("status 500, rate 5", "status 500, from 5", "cut after", "cut after x chunks", "cut after 10000000 chunks"),
        *("stall 5 before headers", "stall 5s", "stall 5s before lunch", "slow reading", "split split", "vanish"),
        *("content length", "content length 5"),
    ],
)
def test_anything_else_names_what_may_be_written(text: str) -> None:
    """The message repeats the text and has every form and clause."""
    with pytest.raises(SettingsError) as error:
        parse_fault(text)
    assert all(form in str(error.value) for form in (*FORMS, *CLAUSES, repr(text)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("status 500, rate 101%", "from 0% to 100%"),
        ("status 500, from 2s to 1s", "end before it begins"),
        ("status 500, from 2s to 2s", "end before it begins"),
        ("status 500, rate 1%, rate 2%", "'rate' is given twice"),
        ("refuse, rate 5%", "the whole server's"),
        ("outage, on chat", "the whole server's"),
        ("vanish x model y", "the whole server's"),
        ("slow reading 10 bytes/s, model x", "before the body is read"),
        ("slow reading 0 bytes/s", "at least"),
        ("comments every 1us", "1ms at most"),
        ("stall 10000000s before headers", "at most"),
    ],
)
def test_what_makes_no_sense_is_said(text: str, said: str) -> None:
    """Clauses that contradict each other or do not fit the kind are refused with the reason."""
    with pytest.raises(SettingsError, match=said):
        parse_fault(text)


def test_a_wrong_fault_in_the_settings_names_the_setting() -> None:
    """As with every other setting, a wrong value is told by the setting's name and what it may be."""
    with pytest.raises(SettingsError, match=r"setting 'faults': 'statis 500' is no fault: write one of status 503; "):
        SimulatorSettings().changed({"faults": ["cut", "statis 500"]})


@pytest.mark.parametrize("text", ["status 200", "status 600", "status 5000"])
def test_a_status_that_is_no_error_is_told_the_range(text: str) -> None:
    """From 400 to 599."""
    with pytest.raises(SettingsError, match=f"'{text}' is no fault: a status is from 400 to 599; write one of"):
        parse_fault(text)


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s", "m", "min", "h", "d"])
def test_times_have_the_same_units_everywhere(unit: str) -> None:
    """Of a fault, a limit, a distribution and an option of the command: the same text is the same length."""
    number = {"ns": 5_000_000_000, "us": 5_000_000, "ms": 5_000, "s": 30}.get(unit, 0.01)
    text = f"{number}{unit}"
    length_ns = parse_fault(f"status 500, from {text}").from_ns
    assert read_limit(f"1 request/{text}").window_ns == length_ns
    assert Distribution.parse(text, "time").constant == length_ns
    assert duration(text) == pytest.approx(length_ns / 1e9)


def test_a_header_has_several() -> None:
    """Semicolons part the faults of a request's header; those of the whole server cannot be asked for."""
    assert [fault.kind for fault in parse_header("split; comments every 10ms ;no done")] == [
        "split",
        "comments",
        "no done",
    ]
    for text in ("refuse", "split; outage", "vanish z-ai/glm-5", "appear x"):
        with pytest.raises(SettingsError, match="the whole server's"):
            parse_header(text)
    with pytest.raises(SettingsError, match="write one of"):
        parse_header("split;")


_WORDS = [word for form in (*FORMS, *CLAUSES) for word in form.split()]
_PIECES = st.one_of(st.sampled_from(_WORDS), st.sampled_from(list(FORMS)), st.text(max_size=8))


@given(st.lists(_PIECES, max_size=12).map(" ".join))
def test_no_text_is_a_defect(text: str) -> None:
    """Whatever is written, it is read or refused; what was read is read again from its own text."""
    try:
        fault = parse_fault(text)
    except SettingsError:
        return
    assert parse_fault(fault.text) == fault
