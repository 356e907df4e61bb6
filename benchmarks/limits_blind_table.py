"""What came of blind trials, as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from limits_blind_world import KINDS, MOST_IN_A_TRIP, Cell
from tensorix_reports.limiter import Kind, Verdict

__all__ = ["SURE", "Result", "print_tables"]

SURE = 0.95
_BINS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class Result:
    """One trial."""

    cell: Cell
    verdict: Verdict
    named: Kind | None
    """The most probable kind."""
    probability: float
    limit: float | None
    window_s: float | None
    requests: int
    windows: float
    """How long it took from the first request on, in documented windows."""
    kept: bool
    """Whether it stayed within what was announced."""
    claims_foreign: bool
    second: tuple[int, float] | None
    cpu_s: float

    @property
    def right(self) -> bool:
        """Whether the most probable kind is the one it is, or it met only the limit a second: that has its own kind."""
        return self.named == self.cell.kind or (self.second is None and self.saw_second)

    @property
    def saw_second(self) -> bool:
        """Whether it found the limit a second: besides, or as the only one that it met or was told of."""
        true, found = self.cell.second, self.second
        if found is None and self.limit is not None and self.window_s is not None:
            found = (round(self.limit), self.window_s)
        if true is None or found is None:
            return False
        return abs(found[0] - true) <= max(1.0, 0.1 * true) and abs(found[1] - 1.0) <= 0.2

    @property
    def sure(self) -> bool:
        """Whether it was stated."""
        return self.named is not None and self.probability >= SURE and self.verdict == "named"


def _share(some: Sequence[Result], holds: Callable[[Result], bool]) -> str:
    return f"{sum(map(holds, some)) / len(some):.3f}" if some else "-"


def _row(name: str, some: Sequence[Result]) -> str:
    if not some:
        return f"| {name} | 0 |"
    sure = [one for one in some if one.sure]
    wrong = [one for one in sure if not one.right]
    cells = [
        name,
        str(len(some)),
        _share(some, lambda one: one.right),
        _share(some, lambda one: one.sure),
        f"{len(wrong)} ({_share(sure, lambda one: not one.right)})",
        f"{median(one.requests / one.cell.limit for one in some):.2f} ({median(one.requests for one in some):.0f})",
        _share(some, lambda one: one.kept),
        f"{median(one.windows for one in some):.2f}",
        f"{median(one.cpu_s for one in some):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def print_tables(results: Sequence[Result], *, each: bool = False) -> int:
    """Print all tables, and with `each` every trial that was not right; 1 where a statement was too often wrong."""
    print("\n| trials | runs | right | stated | of these wrong | requests / N (requests) | kept | windows | s CPU |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    plain = [one for one in results if one.cell.plain]
    for header in (False, True):
        for foreign in (False, True):
            some = [one for one in plain if one.cell.header == header and (one.cell.foreign > 0) == foreign]
            print(_row(f"{'header' if header else 'no header'}, {'foreign traffic' if foreign else 'alone'}", some))
    print(_row("of these, another kind of burst", [one for one in plain if one.cell.burst is not None]))
    print(_row("limit a second besides", [one for one in results if one.cell.second is not None]))
    other = [one for one in results if one.cell.window_s != one.cell.documented_window_s and one.cell.second is None]
    print(_row("another window than documented", other))
    over = [one for one in results if one.cell.in_a_trip > MOST_IN_A_TRIP and one.cell.second is None]
    print(_row(f"over {MOST_IN_A_TRIP:g} in a round trip", over))
    for limit in sorted({_about(one) for one in plain}):
        print(_row(f"limit about {limit}", [one for one in plain if _about(one) == limit]))
    _confusion(plain)
    _calibration(plain)
    _besides(results)
    if each:
        for one in results:
            if not one.right or (one.cell.second is not None and one.second is None):
                print(f"{'STATED ' if one.sure else ''}{one.named} {one.probability:.3f} {one.verdict}: {one}")
    stated = [one for one in results if one.sure]
    return int(sum(not one.right for one in stated) > 0.01 * len(stated))


def _about(one: Result) -> int:
    return min((10, 60, 600), key=lambda limit: abs(one.cell.limit / limit - 1))


def _confusion(results: Sequence[Result]) -> None:
    print(f"\n| it is | {' | '.join(KINDS)} | nothing |\n| --- |{' --- |' * (len(KINDS) + 1)}")
    for kind in KINDS:
        found = Counter(one.named for one in results if one.cell.kind == kind)
        print(f"| {kind} | {' | '.join(str(found[name]) for name in (*KINDS, None))} |")


def _calibration(results: Sequence[Result]) -> None:
    print("\n| probability | alone: runs | right | foreign traffic: runs | right |\n| --- | --- | --- | --- | --- |")
    for low, high in pairwise(_BINS):
        parts = [f"{low:g} to {high:g}"]
        for foreign in (False, True):
            some = [
                one
                for one in results
                if one.named is not None
                and (one.cell.foreign > 0) == foreign
                and (low <= one.probability < high or (high == 1.0 and one.probability >= 1.0))
            ]
            parts += [str(len(some)), _share(some, lambda one: one.right)]
        print(f"| {' | '.join(parts)} |")


def _besides(results: Sequence[Result]) -> None:
    alone = [one for one in results if not one.cell.foreign]
    shared = [one for one in results if one.cell.foreign]
    print(f"\nforeign use claimed: {_share(alone, lambda one: one.claims_foreign)} of {len(alone)} keys to themselves,")
    print(f"  {_share(shared, lambda one: one.claims_foreign)} of {len(shared)} with foreign traffic")
    for name, some in (("key to itself", alone), ("foreign traffic", shared)):
        second = [one for one in some if one.cell.second is not None]
        print(f"limits a second seen, {name}: {_share(second, lambda one: one.saw_second)} of {len(second)},")
        print(f"  as one beside a longer limit {_share(second, lambda one: one.second is not None)}")
    single = [one for one in results if one.cell.second is None]
    print(f"  claimed where there is none: {_share(single, lambda one: one.second is not None)} of {len(single)}")
    print(
        "verdicts: " + ", ".join(f"{name} {count}" for name, count in Counter(one.verdict for one in results).items())
    )
