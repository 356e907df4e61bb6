"""Statements on the tables, each in a transaction that somebody else began."""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias

from sqlalchemy import Connection, Select, Table, delete, func, null, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tensorix_records.history._hours import hours_of, key_of, merge_hours, start_of_hour_s
from tensorix_records.history._rows import ResultRow, RoundRow
from tensorix_records.history._schema import ASSERTION_SETS, HOURS, NOT_ROLLED_UP, RESULTS, ROUNDS
from tensorix_records.history._stored import hour_columns, hour_of, result_of, round_of

__all__ = [
    "PAGE",
    "WEEK_S",
    "AssertionSets",
    "forget_hours",
    "forget_rounds",
    "insert_into",
    "read_rounds",
    "replace_in",
    "roll_up",
    "targets_in",
]

PAGE = 500
"""Rounds that are read or forgotten at a time."""
_ROLLED = 200
"""Rounds that are rolled up at a time: a tenth of a second in which no other writes."""
WEEK_S = 7 * 86_400
"""Of hours as many."""
_NOT_SUMMED = {"assertion_set", "details", "figures", "reason", "request_id"}
_MOST_SETS = 10_000
"""Assertion sets that are remembered: checks make a few dozen."""

AssertionSets: TypeAlias = dict[int, list[dict[str, Any]]]
"""Those that are known already: they never change."""


def insert_into(connection: Connection, table: Table) -> Any:
    """An insert that can be told what to do where the row is there."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def replace_in(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Write rows, each in place of the one with its key."""
    insert = insert_into(connection, table)
    key = [column.name for column in table.primary_key]
    changed = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in key}
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=changed), rows)


def targets_in(connection: Connection, table: Table) -> Iterator[str]:
    """The targets in a table: one look into the index for each, where DISTINCT would read all of it."""
    name: str | None = connection.scalar(select(func.min(table.c.target)))
    while name is not None:
        yield name
        name = connection.scalar(select(func.min(table.c.target)).where(table.c.target > name))


def read_rounds(
    connection: Connection, sets: AssertionSets, query: Select[Any], *, results: bool = True, sums_only: bool = False
) -> list[tuple[int, RoundRow]]:
    """The rounds of a query, each with its number; with `sums_only`, of the results what hours are summed from."""
    found = connection.execute(query).mappings().all()
    of_round: dict[int, list[ResultRow]] = defaultdict(list)
    if results and found:
        columns = [null().label(one.name) if sums_only and one.name in _NOT_SUMMED else one for one in RESULTS.columns]
        of_them = select(*columns).where(RESULTS.c.round.in_([row["id"] for row in found]))
        rows = connection.execute(of_them.order_by(RESULTS.c.round, RESULTS.c.number)).mappings().all()
        # Other threads may add to what is known meanwhile.
        unknown = {row["assertion_set"] for row in rows if row["assertion_set"] not in sets} - {None}
        learnt: AssertionSets = {}
        if unknown:
            query = select(ASSERTION_SETS).where(ASSERTION_SETS.c.id.in_(unknown))
            learnt = {row.id: row.content for row in connection.execute(query)}
            if len(sets) < _MOST_SETS:
                sets.update(learnt)
        known = ChainMap(learnt, sets)
        for row in rows:
            of_round[row["round"]].append(result_of(row, known))
    return [(row["id"], round_of(row, tuple(of_round[row["id"]]))) for row in found]


def roll_up(connection: Connection, sets: AssertionSets, until_s: int) -> bool:
    """Add a page of rounds to their hours; whether there were any."""
    fresh = select(ROUNDS).where(NOT_ROLLED_UP, ROUNDS.c.started_unix_ns < until_s * 1_000_000_000)
    rounds = read_rounds(connection, sets, fresh.order_by(ROUNDS.c.started_unix_ns).limit(_ROLLED), sums_only=True)
    if not rounds:
        return False
    added = hours_of(row for _, row in rounds)
    first, last = (start_of_hour_s(rounds[index][1].started_unix_ns) for index in (0, -1))
    there = connection.execute(
        select(HOURS).where(
            HOURS.c.target.in_({row.target for row in added.values()}), HOURS.c.hour_unix_s.between(first, last)
        )
    ).mappings()
    before = [row for row in map(hour_of, there) if key_of(row) in added]
    replace_in(connection, HOURS, [hour_columns(row) for row in merge_hours([*before, *added.values()]).values()])
    connection.execute(update(ROUNDS).where(ROUNDS.c.id.in_([number for number, _ in rounds])).values(rolled_up=1))
    return True


def forget_rounds(connection: Connection, before_unix_ns: int) -> bool:
    """Delete a page of old rounds, with their results, that are in the roll-ups; whether there were any."""
    old = select(ROUNDS.c.id).where(ROUNDS.c.started_unix_ns < before_unix_ns, ROUNDS.c.rolled_up == 1)
    numbers = connection.scalars(old.order_by(ROUNDS.c.started_unix_ns).limit(PAGE)).all()
    if numbers:
        connection.execute(delete(ROUNDS).where(ROUNDS.c.id.in_(numbers)))
    return bool(numbers)


def forget_hours(connection: Connection, before_s: int) -> bool:
    """Delete a week of a target's old hours; whether there were any."""
    for target in targets_in(connection, HOURS):
        oldest = connection.scalar(select(func.min(HOURS.c.hour_unix_s)).where(HOURS.c.target == target))
        if oldest is not None and oldest < before_s:
            until = min(before_s, oldest + WEEK_S)
            connection.execute(delete(HOURS).where(HOURS.c.target == target, HOURS.c.hour_unix_s < until))
            return True
    return False
