"""What does each instrumentation tell of a call, and of every way in which a stream can end?

    python benchmarks/tracing_table.py [--only ours] [--json FILE]

The same calls to the simulator by the openai SDK, each instrumentation in a process and an environment of its own
(`tracing_subject.py`; `make bench-peers` installs the others). A cell is what was seen of the spans and metrics, and
whether that is what the row asks for:

    ended whole       one span, ended, no error
    a defect          one span, ended, an error that says of which kind
    stopped           one span, ended, no error, since nobody failed; and told apart from a stream that ended whole, and
                      from those that stopped otherwise
    time to first     some attribute, event or metric says it, within 30 ms of what the caller saw. The first chunk of
                      that stream has no text and comes at once, its first text 400 ms later
    streaming response
                      one span, as long as the caller read
    three attempts    three spans below the call's, or an attribute that counts them
    rate limit        an attribute says what the response's header said of the requests that remain
    prompt, key       in no attribute and no event of any span
    300 streams       abandoned, cut and cancelled: no span left open; objects left in memory a stream (blocks of
                      Python's allocator; what the SDK itself leaves is in it), less than 2

"open" counts spans that began and were not ended, after a collection of garbage and a second and a half.

Exit status 1 if a cell of ours is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tensorix_simulator import Simulator
from tracing_subject import CASES, INSTRUMENTATIONS, KEY, MARK

PEERS: Final = Path(__file__).parents[1] / ".peers"
_NEAR_S = 0.03
_LIMIT_S = 300
_BLOCKS = 2.0
_ATTEMPTS = 3

Observed = dict[str, dict[str, Any]]
"""What one instrumentation told, by case: the lines of `tracing_subject.py`."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What was seen, and whether the row asks for that."""

    seen: str
    right: bool


def calls(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The spans that stand for a call: those without one of the same case above them."""
    ids = {span["id"] for span in told["spans"]}
    return [span for span in told["spans"] if span["parent"] not in ids]


def said(told: dict[str, Any]) -> str:
    """How the call ended, in the words of its span: its status, its outcome or kind of error."""
    spans = calls(told)
    if len(spans) != 1:
        return f"{len(spans)} spans" if spans else "no span"
    span = spans[0]
    if not span["ended"]:
        return "left open"
    attributes = span["attributes"]
    kinds = [str(value) for name, value in attributes.items() if name.endswith(".outcome")]
    kinds += [str(attributes[name]) for name in ("error.type",) if name in attributes]
    kinds += [str(one["attributes"].get("exception.type")) for one in span["events"] if one["name"] == "exception"]
    return ", ".join([span["status"].lower(), *dict.fromkeys(kind.rpartition(".")[2] for kind in kinds)])


def _one(told: dict[str, Any]) -> dict[str, Any] | None:
    """The call's span if it is the only one, and nothing is left open."""
    spans = calls(told)
    return spans[0] if len(spans) == 1 and told["open"] == 0 else None


def _whole(case: str) -> Callable[[Observed], Cell]:
    def judge(observed: Observed) -> Cell:
        span = _one(observed[case])
        return Cell(said(observed[case]), span is not None and span["status"] != "ERROR")

    return judge


def _defect(case: str, outcome: str) -> Callable[[Observed], Cell]:
    """`outcome` is the word for it, which an instrumentation that has such words must have said."""

    def judge(observed: Observed) -> Cell:
        text, span = said(observed[case]), _one(observed[case])
        kinds = text.split(", ")[1:]
        own = [value for name, value in span["attributes"].items() if name.endswith(".outcome")] if span else []
        right = span is not None and span["status"] == "ERROR" and bool(kinds) and own in ([], [outcome])
        return Cell(text, right)

    return judge


def _stopped(case: str, outcome: str, others: tuple[str, ...]) -> Callable[[Observed], Cell]:
    def judge(observed: Observed) -> Cell:
        text, span = said(observed[case]), _one(observed[case])
        apart = all(text != said(observed[other]) for other in others)
        own = [value for name, value in span["attributes"].items() if name.endswith(".outcome")] if span else []
        right = span is not None and span["status"] != "ERROR" and apart and own in ([], [outcome])
        same = [other for other in others if text == said(observed[other])]
        return Cell(text + (f": the same as {same[0]}" if same else ""), right)

    return judge


def _time_to(what: str) -> Callable[[Observed], Cell]:
    def judge(observed: Observed) -> Cell:
        told = observed["first_token"]
        at_s = told["seen"][what]
        found: list[str] = []
        for span in calls(told):
            numbers = {name: value for name, value in span["attributes"].items() if isinstance(value, float)}
            found += [f"attribute {name}" for name, value in numbers.items() if abs(value - at_s) < _NEAR_S]
            found += [f"event {event['name']}" for event in span["events"] if abs(event["at_s"] - at_s) < _NEAR_S]
        found += [f"metric {name}" for name, added in told["metrics"].items() if abs(added - at_s) < _NEAR_S]
        return Cell(found[0] if found else "no", bool(found))

    return judge


def _streaming_response(observed: Observed) -> Cell:
    told = observed["streaming_response"]
    span = _one(told)
    if span is None:
        return Cell(said(told), False)
    missing_s = told["seen"]["last_s"] - span["duration_s"]
    text = f"{said(told)}, " + (f"{missing_s * 1000:.0f} ms short" if missing_s > _NEAR_S else "to the end")
    return Cell(text, missing_s <= _NEAR_S and span["status"] != "ERROR")


def _attempts(observed: Observed) -> Cell:
    told = observed["retried"]
    span = _one(told)
    if span is None:
        return Cell(said(told), False)
    below = sum(one["parent"] == span["id"] for one in told["spans"])
    words = ("attempt", "retr", "resend")
    counts = [
        name
        for name, value in span["attributes"].items()
        if value in (_ATTEMPTS, _ATTEMPTS - 1) and not isinstance(value, bool) and any(word in name for word in words)
    ]
    seen = [f"{below} spans below"] * bool(below) + counts
    return Cell(f"{said(told)}; {' and '.join(seen) or 'one span'}", below == _ATTEMPTS or bool(counts))


def _rate_limit(observed: Observed) -> Cell:
    told = observed["whole"]
    remaining = int(told["seen"]["requests"])
    names = [name for span in calls(told) for name, value in span["attributes"].items() if value == remaining]
    return Cell(f"attribute {names[0]}" if names else "no", bool(names))


def _kept_out(secret: str) -> Callable[[Observed], Cell]:
    def judge(observed: Observed) -> Cell:
        spans = [span for told in observed.values() for span in told["spans"]]
        holders = [
            name
            for span in spans
            for held in (span["attributes"], *(event["attributes"] for event in span["events"]))
            for name, value in held.items()
            if secret in str(value)
        ]
        return Cell(f"yes: {holders[0]}" if holders else "no", bool(spans) and not holders)

    return judge


def _many(observed: Observed) -> Cell:
    told = observed["many"]
    blocks = told["seen"].get("blocks_a_stream", float("inf"))
    return Cell(f"{told['open']} open, {blocks:.1f} objects a stream", told["open"] == 0 and blocks < _BLOCKS)


ROWS: Final[dict[str, Callable[[Observed], Cell]]] = {
    "streamed, read to its end": _whole("completed"),
    "not streamed": _whole("whole"),
    "time to first chunk": _time_to("first_chunk_s"),
    "time to first token": _time_to("first_token_s"),
    "cut in the middle, by a reset": _defect("cut_by_reset", "cut"),
    "cut in the middle, by an end": _defect("cut_by_end", "cut"),
    "error event in the middle": _defect("error_event", "error_event"),
    "no JSON where JSON was due": _defect("malformed", "malformed"),
    "a read times out": _defect("timed_out", "timeout"),
    "consumer breaks, then closes": _stopped("closed", "closed_early", ("completed", "abandoned")),
    "consumer leaves the with": _stopped("left_with", "closed_early", ("completed", "abandoned")),
    "abandoned, collected": _stopped("abandoned", "abandoned", ("completed", "closed")),
    "task cancelled in the middle": _stopped("cancelled", "cancelled", ("completed", "closed", "abandoned")),
    "task cancelled before the headers": _stopped("cancelled_early", "cancelled", ("completed", "abandoned")),
    "with_streaming_response": _streaming_response,
    "three attempts by the SDK's retry": _attempts,
    "rate limit": _rate_limit,
    "prompt captured unasked": _kept_out(MARK),
    "key captured": _kept_out(KEY),
    "300 streams abandoned, cut, cancelled": _many,
}


def python_of(name: str) -> Path:
    """The interpreter of an instrumentation's environment; ours is this one's."""
    return Path(sys.executable) if name == "ours" else PEERS / f"tracing-{name}" / "bin" / "python"


def observe(name: str, base_url: str) -> tuple[dict[str, str], Observed]:
    """The versions at work, and what was told. Raises RuntimeError where a case brought no line."""
    script = Path(__file__).with_name("tracing_subject.py")
    left_out = ("OTEL_", "TENSORIX_", "OPENAI_")
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(left_out) and not key.lower().endswith("_proxy")
    }
    done = subprocess.run(
        [python_of(name), script, name, base_url],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=_LIMIT_S,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or len(lines) != 1 + len(CASES):
        raise RuntimeError(f"{name} ended with status {done.returncode} after {len(lines)} lines")
    return lines[0], {line["case"]: line for line in lines[1:]}


def judged(observed: Observed) -> dict[str, Cell]:
    """A cell a row; a row asks as well that none of the spans of its case is left open."""
    return {row: judge(observed) for row, judge in ROWS.items()}


def table(columns: dict[str, dict[str, Cell]]) -> str:
    """As Markdown."""
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for row in ROWS:
        cells = [column[row] for column in columns.values()]
        texts = [f"{'ok' if cell.right else '**wrong**'}: {cell.seen}" for cell in cells]
        lines.append(f"| {row} | " + " | ".join(texts) + " |")
    rights = [f"{sum(cell.right for cell in column.values())} of {len(ROWS)}" for column in columns.values()]
    return "\n".join([*lines, "| right | " + " | ".join(rights) + " |"])


def main() -> int:
    """Observe, judge, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="NAMES", help=f"of {', '.join(INSTRUMENTATIONS)}, parted by commas")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all cells to a file")
    asked = parser.parse_args()
    wanted = asked.only.split(",") if asked.only else list(INSTRUMENTATIONS)
    if unknown := set(wanted) - set(INSTRUMENTATIONS):
        parser.error(f"no instrumentation {', '.join(sorted(unknown))}: there are {', '.join(INSTRUMENTATIONS)}")
    columns: dict[str, dict[str, Cell]] = {}
    versions: dict[str, dict[str, str]] = {}
    missing = [name for name in wanted if not python_of(name).exists()]
    with Simulator(rpm=100_000, tpm=None, ttft="1ms", between_tokens="5ms") as simulator:
        for name in (name for name in wanted if name not in missing):
            versions[name], observed = observe(name, simulator.base_url)
            columns[name] = judged(observed)
    print(table(columns))
    print()
    for name, found in versions.items():
        print(f"{name}: {', '.join(f'{package} {version}' for package, version in found.items())}")
    for name in missing:
        print(f"{name} is not installed: `make bench-peers`")
    if asked.json:
        rows = {
            row: {name: {"seen": cells[row].seen, "right": cells[row].right} for name, cells in columns.items()}
            for row in ROWS
        }
        text = json.dumps({"versions": versions, "missing": missing, "rows": rows}, indent=1)
        asked.json.write_text(text, encoding="utf-8")
    return 1 if any(not cell.right for cell in columns.get("ours", {}).values()) else 0


if __name__ == "__main__":
    sys.exit(main())
