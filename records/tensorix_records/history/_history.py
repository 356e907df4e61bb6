"""The history of probes in a database."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from tensorix_api.errors import HistoryError
from tensorix_records.history._engine import check_file, connect_to, place_of, reading, told, writing
from tensorix_records.history._hours import HOUR_NS, HOUR_S, hours_of, merge_hours, start_of_hour_s
from tensorix_records.history._migrate import migrate
from tensorix_records.history._rows import HourRow, RoundRow
from tensorix_records.history._schema import ASSERTION_SETS, HOURS, MEMORY, NOT_ROLLED_UP, RESULTS, ROUNDS
from tensorix_records.history._spool import spooled, spooled_rounds
from tensorix_records.history._stored import assertion_set, hour_of, kept, result_columns, round_columns
from tensorix_records.history._tables import (
    PAGE,
    WEEK_S,
    AssertionSets,
    forget_hours,
    forget_rounds,
    insert_into,
    read_rounds,
    replace_in,
    roll_up,
    targets_in,
)

__all__ = ["History"]

_LAST_NS = 2**63 - 1
_MAINTENANCE_LOCK = 0x7E45_0002


class History:
    """A history that is open. Any number of threads and processes may read and write."""

    def __init__(self, url: str, *, create: bool, wait_s: float) -> None:
        self._place = place_of(url)
        self._sets: AssertionSets = {}
        self._file: tuple[int, int] | None = None
        with told(self._place, "opened"):
            if self._place.file is not None:
                check_file(self._place.file, create=create)
            self._engine = connect_to(self._place, wait_s)
            try:
                migrate(self._engine, self._place, create=create)
            except BaseException:
                self._engine.dispose()
                raise
            self._file = self._identity()

    @classmethod
    def open(cls, url: str, *, create: bool = True, wait_s: float = 5.0) -> History:
        """Open a file (SQLite) or `postgresql://…`, bringing its schema up to date.

        `wait_s` is how long a lock of another process is waited for, here and later. Raises HistoryError (one line, no
        password in it) where it cannot be opened, or a newer version made it.
        """
        return cls(url, create=create, wait_s=wait_s)

    def __str__(self) -> str:
        """Where it is, without a password."""
        return str(self._place)

    def close(self) -> None:
        """Close it."""
        self._engine.dispose()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def append(self, rounds: Sequence[RoundRow], *, remember: Mapping[str, Any] | None = None) -> None:
        """Write rounds, all or none, and what is to be remembered with them; a round that is there stays as it is.

        What is written is on the disk: neither the end of the process nor a power cut takes it back. Raises
        HistoryError where it cannot be written: locked, a full disk, gone.
        """
        if self._identity() != self._file:
            raise HistoryError(f"the history {self._place} was removed or replaced: open it anew")
        with told(self._place, "written"), writing(self._engine) as connection:
            new: dict[str, int] = {}
            for start in range(0, len(rounds), PAGE):
                some = [round_columns(row) for row in rounds[start : start + PAGE]]
                insert = insert_into(connection, ROUNDS).on_conflict_do_nothing(index_elements=["round_id"])
                found = connection.execute(insert.returning(ROUNDS.c.round_id, ROUNDS.c.id), some)
                new.update({row.round_id: row.id for row in found})
            self._append_results(connection, rounds, new)
            for name, value in (remember or {}).items():
                replace_in(connection, MEMORY, [{"name": name, "value": kept(value)}])

    def _append_results(self, connection: Connection, rounds: Sequence[RoundRow], new: Mapping[str, int]) -> None:
        results: list[dict[str, Any]] = []
        sets: dict[int, list[dict[str, Any]]] = {}
        written = set[str]()
        for row in rounds:
            kept_id = kept(row.round_id)
            if kept_id not in new or kept_id in written:
                continue
            written.add(kept_id)
            for number, result in enumerate(row.results):
                results.append({"round": new[kept_id], **result_columns(result, number)})
                if (known := assertion_set(result)) and known[0] not in self._sets:
                    sets[known[0]] = known[1]
        if sets:
            insert = insert_into(connection, ASSERTION_SETS).on_conflict_do_nothing()
            connection.execute(insert, [{"id": number, "content": content} for number, content in sets.items()])
        if results:
            connection.execute(RESULTS.insert(), results)

    def rounds(
        self,
        *,
        target: str | None = None,
        location: str | None = None,
        since_unix_ns: int = 0,
        until_unix_ns: int | None = None,
        results: bool = True,
    ) -> Iterator[RoundRow]:
        """The rounds that started in [since, until), oldest first; those that are past retention are gone.

        They are read a page at a time, so that no reader holds a writer up; what is written meanwhile may be among
        them. Raises HistoryError.
        """
        wanted = [ROUNDS.c.started_unix_ns < (_LAST_NS if until_unix_ns is None else until_unix_ns)]
        if target is not None:
            wanted.append(ROUNDS.c.target == target)
        if location is not None:
            wanted.append(ROUNDS.c.location == location)
        after = ROUNDS.c.started_unix_ns >= since_unix_ns
        while True:
            query = select(ROUNDS).where(*wanted, after).order_by(ROUNDS.c.started_unix_ns, ROUNDS.c.id).limit(PAGE)
            with told(self._place, "read"), reading(self._engine) as connection:
                page = read_rounds(connection, self._sets, query, results=results)
            yield from (row for _, row in page)
            if len(page) < PAGE:
                return
            last_id, last = page[-1]
            after = or_(
                ROUNDS.c.started_unix_ns > last.started_unix_ns,
                and_(ROUNDS.c.started_unix_ns == last.started_unix_ns, ROUNDS.c.id > last_id),
            )

    def hours(
        self,
        *,
        target: str | None = None,
        since_unix_ns: int = 0,
        until_unix_ns: int | None = None,
        checks: bool = True,
    ) -> Iterator[HourRow]:
        """Roll-ups of every hour that began in [since, until), also of those whose rounds are not yet rolled up.

        By target, then oldest first; without `checks`, of the rounds only. Raises HistoryError.
        """
        until = -(-(_LAST_NS if until_unix_ns is None else until_unix_ns) // HOUR_NS) * HOUR_S
        for one in [target] if target is not None else self.targets():
            end = -(-since_unix_ns // HOUR_NS) * HOUR_S
            while (start := self._next_hour(one, end)) is not None and start < until:
                end = min(start + WEEK_S, until)
                yield from self._hours_in(one, start, end, checks=checks)

    def _next_hour(self, target: str, start: int) -> int | None:
        """The first hour from `start` on of which anything is known."""
        rolled = select(func.min(HOURS.c.hour_unix_s)).where(HOURS.c.target == target, HOURS.c.hour_unix_s >= start)
        fresh = select(func.min(ROUNDS.c.started_unix_ns)).where(
            NOT_ROLLED_UP, ROUNDS.c.target == target, ROUNDS.c.started_unix_ns >= start * 1_000_000_000
        )
        with told(self._place, "read"), reading(self._engine) as connection:
            first, first_ns = connection.scalar(rolled), connection.scalar(fresh)
        known = [first, None if first_ns is None else start_of_hour_s(first_ns)]
        return min((hour for hour in known if hour is not None), default=None)

    def _hours_in(self, target: str, start: int, end: int, *, checks: bool) -> list[HourRow]:
        with told(self._place, "read"), reading(self._engine) as connection:
            known = select(HOURS).where(
                HOURS.c.target == target, HOURS.c.hour_unix_s >= start, HOURS.c.hour_unix_s < end
            )
            if not checks:
                known = known.where(HOURS.c.check_name == "")
            rows = [hour_of(row) for row in connection.execute(known).mappings()]
            fresh = select(ROUNDS).where(
                NOT_ROLLED_UP,
                ROUNDS.c.target == target,
                ROUNDS.c.started_unix_ns >= start * 1_000_000_000,
                ROUNDS.c.started_unix_ns < min(end * 1_000_000_000, _LAST_NS),
            )
            rows += hours_of(row for _, row in read_rounds(connection, self._sets, fresh, sums_only=True)).values()
        return [row for _, row in sorted(merge_hours(rows).items()) if checks or row.check is None]

    def targets(self) -> list[str]:
        """The names of all targets of which anything is known, in order. Raises HistoryError."""
        with told(self._place, "read"), reading(self._engine) as connection:
            return sorted({*targets_in(connection, ROUNDS), *targets_in(connection, HOURS)})

    def spends(
        self, key_alias: str, since_unix_ns: int, *, targets: Sequence[str] | None = None
    ) -> list[tuple[int, int, int, float | None]]:
        """What the probes of a key used: (started_unix_ns, requests, tokens, cost), oldest first.

        Of some targets only: one word may be a key of several servers. Raises HistoryError.
        """
        query = (
            select(RESULTS.c.started_unix_ns, RESULTS.c.requests, RESULTS.c.tokens, RESULTS.c.cost)
            .join(ROUNDS, ROUNDS.c.id == RESULTS.c.round)
            # A round's results begin after it, but not by an hour.
            .where(ROUNDS.c.started_unix_ns >= since_unix_ns - HOUR_NS)
            .where(RESULTS.c.key_alias == key_alias, RESULTS.c.started_unix_ns >= since_unix_ns)
            .where(or_(RESULTS.c.requests != 0, RESULTS.c.tokens != 0, RESULTS.c.cost.is_not(None)))
            .order_by(RESULTS.c.started_unix_ns)
        )
        if targets is not None:
            query = query.where(ROUNDS.c.target.in_(targets))
        with told(self._place, "read"), reading(self._engine) as connection:
            return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]

    def recall(self, name: str) -> Any:
        """A JSON value that was remembered under a name, None where there is none. Raises HistoryError."""
        with told(self._place, "read"), reading(self._engine) as connection:
            return connection.scalar(select(MEMORY.c.value).where(MEMORY.c.name == name))

    def remember(self, name: str, value: Any) -> None:
        """Keep a JSON value under a name. Raises HistoryError as `append` does."""
        self.append([], remember={name: value})

    def take_in(self) -> int:
        """Write the rounds that wait in the file beside the history, since somebody could not; how many there were.

        Raises HistoryError; then they go on waiting.
        """
        with told(self._place, "read"):
            file = spooled(self._place)
        if file is None:
            return 0
        taken = 0
        with told(self._place, "written"), file:
            rounds = spooled_rounds(file)
            while page := list(islice(rounds, PAGE)):
                self.append(page)
                taken += len(page)
            # What was written before a failure or a kill is there twice, and written once: by its number.
            file.truncate(0)
        return taken

    def maintain(self, now_unix_ns: int, *, keep_results_s: float, keep_hours_s: float) -> None:
        """Roll up the hours that are over, then forget what is older than it is to be kept, a bounded piece at a time.

        May be called at any time and by any number of processes; a round that comes late is added to its hour by the
        next call. Raises HistoryError.
        """
        while True:
            began = time.monotonic()
            if not self.maintain_some(now_unix_ns, keep_results_s=keep_results_s, keep_hours_s=keep_hours_s):
                return
            # SQLite's writers do not queue: who waits for the lock gets it in such a pause.
            time.sleep(time.monotonic() - began)

    def maintain_some(self, now_unix_ns: int, *, keep_results_s: float, keep_hours_s: float) -> bool:
        """One bounded piece of what `maintain` does; whether there may be more to do. Raises HistoryError."""
        with told(self._place, "maintained"), writing(self._engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MAINTENANCE_LOCK})")
            return (
                roll_up(connection, self._sets, start_of_hour_s(now_unix_ns))
                or forget_rounds(connection, now_unix_ns - int(keep_results_s * 1e9))
                or forget_hours(connection, start_of_hour_s(now_unix_ns - int(keep_hours_s * 1e9)))
            )

    def _identity(self) -> tuple[int, int] | None:
        """Which file it is: one that was removed would go on taking rows that nobody ever reads."""
        if self._place.file is None:
            return None
        try:
            found = self._place.file.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
