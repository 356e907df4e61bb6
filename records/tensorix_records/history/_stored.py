"""Rows as the database keeps them, and back."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sqlalchemy import RowMapping

from tensorix_records.history._engine import compact_json
from tensorix_records.history._phases import pack, unpack
from tensorix_records.history._rows import HourRow, ResultRow, RoundRow

__all__ = [
    "assertion_set",
    "hour_columns",
    "hour_of",
    "kept",
    "result_columns",
    "result_of",
    "round_columns",
    "round_of",
]

# Half of what a column takes, so that the end of an hour can be told of every instant; as ns it is the year 2116.
_MOST = 2**62
_ROUND_COLUMNS = [field.name for field in fields(RoundRow) if field.name != "results"]
_PLAIN_RESULT_COLUMNS = [
    field.name
    for field in fields(ResultRow)
    if field.name not in ("check", "failed", "assertions", "phases_ns", "figures")
]


def kept(value: Any) -> Any:
    """A value that every database takes: what a server sends may hold more than a column, or text that is none."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return max(-_MOST, min(_MOST, int(value)))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {kept(str(name)): kept(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [kept(one) for one in value]
    return kept(str(value))


def round_columns(row: RoundRow) -> dict[str, Any]:
    """A round without its results."""
    columns = {name: kept(getattr(row, name)) for name in _ROUND_COLUMNS}
    return columns | {"state": str(row.state), "location": columns["location"] or ""}


def round_of(columns: RowMapping, results: tuple[ResultRow, ...]) -> RoundRow:
    """A round from its columns and its results."""
    named: dict[str, Any] = {name: columns[name] for name in _ROUND_COLUMNS}
    named["location"] = named["location"] or None
    return RoundRow(**named, results=results)


def assertion_set(row: ResultRow) -> tuple[int, list[dict[str, Any]]] | None:
    """What the assertions of a result are, without what was seen of each, and its hash; None where there are none."""
    if not row.assertions:
        return None
    content = [{key: value for key, value in kept(one).items() if key != "detail"} for one in row.assertions]
    digest = hashlib.blake2b(compact_json(content).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True), content


def result_columns(row: ResultRow, number: int) -> dict[str, Any]:
    """A result, all but the round that it belongs to."""
    known = assertion_set(row)
    details = [kept(one.get("detail")) for one in row.assertions]
    return {name: kept(getattr(row, name)) for name in _PLAIN_RESULT_COLUMNS} | {
        "number": number,
        "check_name": kept(row.check),
        "state": str(row.state),
        "failed": kept(row.failed) or None,
        "assertion_set": known and known[0],
        "details": details if any(detail is not None for detail in details) else None,
        "phases_ns": kept(row.phases_ns) or None,
        "figures": kept(row.figures) or None,
    }


def result_of(columns: RowMapping, sets: Mapping[int, list[dict[str, Any]]]) -> ResultRow:
    """A result from its columns."""
    content = sets.get(columns["assertion_set"], []) if columns["assertion_set"] is not None else []
    details = columns["details"] or [None] * len(content)
    return ResultRow(
        **{name: columns[name] for name in _PLAIN_RESULT_COLUMNS},
        check=columns["check_name"],
        failed=tuple(columns["failed"] or ()),
        assertions=tuple(one | {"detail": detail} for one, detail in zip(content, details, strict=True)),
        phases_ns=columns["phases_ns"] or {},
        figures=columns["figures"] or {},
    )


_COUNTS = ("up", "degraded", "inconclusive", "payment", "down", "requests", "tokens", "cost")


def hour_columns(row: HourRow) -> dict[str, Any]:
    """An hour."""
    return {name: kept(getattr(row, name)) for name in ("target", "hour_unix_s", *_COUNTS)} | {
        "location": row.location or "",
        "check_name": row.check or "",
        "maintenance": int(row.maintenance),
        "causes": dict(row.causes) or None,
        "phases": pack(row.phases),
    }


def hour_of(columns: RowMapping) -> HourRow:
    """An hour from its columns."""
    return HourRow(
        **{name: columns[name] for name in ("target", "hour_unix_s", *_COUNTS)},
        location=columns["location"] or None,
        check=columns["check_name"] or None,
        maintenance=bool(columns["maintenance"]),
        causes=columns["causes"] or {},
        phases=unpack(columns["phases"]),
    )
