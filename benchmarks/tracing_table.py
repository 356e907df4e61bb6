"""What does each instrumentation tell of a call, and of every way in which a stream can end?

    python benchmarks/tracing_table.py [--only ours] [--json FILE]

The same calls to the simulator by the openai SDK, each instrumentation in a process and an environment of its own
(`tracing_subject.py`; `make bench-peers` installs the others). A cell is what was seen of the spans and metrics, and
whether that is what the row asks for:

    ended whole       one span, ended, no error
    a defect          one span, ended, an error that says of which kind
    stopped           one span, ended, no error, since nobody failed; and told apart from a stream that ended whole, and
                      from those that stopped otherwise
    time to first     an attribute, event or metric with "first" in its name says it, within 30 ms of what the caller
                      saw. The first chunk of that stream has no text and comes at once, its first text 400 ms later
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
Judge = Callable[[Observed, str], "Cell"]
"""What a case (or all of them) comes to."""


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


def _own_word(span: dict[str, Any], outcome: str) -> bool:
    """Whether an instrumentation that has words for outcomes said the right one."""
    return [value for name, value in span["attributes"].items() if name.endswith(".outcome")] in ([], [outcome])


def _whole(observed: Observed, case: str) -> Cell:
    span = _one(observed[case])
    return Cell(said(observed[case]), span is not None and span["status"] != "ERROR")


def _defect(outcome: str) -> Judge:
    def judge(observed: Observed, case: str) -> Cell:
        text, span = said(observed[case]), _one(observed[case])
        says_which = len(text.split(", ")) > 1
        right = span is not None and span["status"] == "ERROR" and says_which and _own_word(span, outcome)
        return Cell(text, right)

    return judge


def _stopped(outcome: str, *others: str) -> Judge:
    def judge(observed: Observed, case: str) -> Cell:
        text, span = said(observed[case]), _one(observed[case])
        same = [other for other in others if span is not None and text == said(observed[other])]
        right = span is not None and span["status"] != "ERROR" and not same and _own_word(span, outcome)
        return Cell(text + (f", the same as {' and '.join(same)}" if same else ""), right)

    return judge


def _time_to(what: str) -> Judge:
    def judge(observed: Observed, case: str) -> Cell:
        told = observed[case]
        at_s = told["seen"][what]
        said_s: list[tuple[str, float]] = []
        for span in calls(told):
            said_s += [
                (f"attribute {name}", value) for name, value in span["attributes"].items() if isinstance(value, float)
            ]
            said_s += [(f"event {event['name']}", event["at_s"]) for event in span["events"]]
        said_s += [(f"metric {name}", added) for name, added in told["metrics"].items()]
        # By its name and by its value: a duration may happen to be as long.
        found = [name for name, value in said_s if "first" in name.lower() and abs(value - at_s) < _NEAR_S]
        return Cell(found[0] if found else "no", bool(found))

    return judge


def _streaming_response(observed: Observed, case: str) -> Cell:
    told = observed[case]
    span = _one(told)
    if span is None:
        return Cell(said(told), False)
    missing_s = told["seen"]["last_s"] - span["duration_s"]
    text = f"{said(told)}, " + (f"{missing_s * 1000:.0f} ms short" if missing_s > _NEAR_S else "to the end")
    return Cell(text, missing_s <= _NEAR_S and span["status"] != "ERROR")


def _attempts(observed: Observed, case: str) -> Cell:
    told = observed[case]
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


def _rate_limit(observed: Observed, case: str) -> Cell:
    told = observed[case]
    remaining = int(told["seen"]["requests"])
    names = [name for span in calls(told) for name, value in span["attributes"].items() if value == remaining]
    return Cell(f"attribute {names[0]}" if names else "no", bool(names))


def _kept_out(secret: str) -> Judge:
    def judge(observed: Observed, case: str) -> Cell:
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


def _many(observed: Observed, case: str) -> Cell:
    told = observed[case]
    blocks = told["seen"]["blocks_a_stream"]
    return Cell(f"{told['open']} open, {blocks:.1f} objects a stream", told["open"] == 0 and blocks < _BLOCKS)


ROWS: Final[dict[str, tuple[str, Judge]]] = {
    "streamed, read to its end": ("completed", _whole),
    "not streamed": ("whole", _whole),
    "time to first chunk": ("first_token", _time_to("first_chunk_s")),
    "time to first token": ("first_token", _time_to("first_token_s")),
    "cut in the middle, by a reset": ("cut_by_reset", _defect("cut")),
    "cut in the middle, by an end": ("cut_by_end", _defect("cut")),
    "error event in the middle": ("error_event", _defect("error_event")),
    "no JSON where JSON was due": ("malformed", _defect("malformed")),
    "a read times out": ("timed_out", _defect("timeout")),
    "consumer breaks, then closes": ("closed", _stopped("closed_early", "completed", "abandoned")),
    "consumer leaves the with": ("left_with", _stopped("closed_early", "completed", "abandoned")),
    "abandoned, collected": ("abandoned", _stopped("abandoned", "completed", "closed")),
    "task cancelled in the middle": ("cancelled", _stopped("cancelled", "completed", "closed", "abandoned")),
    "task cancelled before the headers": ("cancelled_early", _stopped("cancelled", "completed", "abandoned")),
    "with_streaming_response": ("streaming_response", _streaming_response),
    "three attempts by the SDK's retry": ("retried", _attempts),
    "rate limit": ("whole", _rate_limit),
    "prompt captured unasked": ("", _kept_out(MARK)),
    "key captured": ("", _kept_out(KEY)),
    "300 streams abandoned, cut, cancelled": ("many", _many),
}
_FAILING: Final = {"cut_by_reset", "cut_by_end", "error_event", "malformed", "timed_out", "retried"}
"""Cases in which the caller gets an exception anyway; in any other it would be the instrumentation's doing."""


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
    """A cell a row."""
    cells = {}
    for row, (case, judge) in ROWS.items():
        raised = observed[case]["raised"] if case else None
        broken = raised is not None and case not in _FAILING
        cells[row] = Cell(f"the caller got {raised}", False) if broken else judge(observed, case)
    return cells


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
            try:
                versions[name], observed = observe(name, simulator.base_url)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                print(error)
                continue
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
    ours = columns.get("ours", {}).values()
    return 1 if "ours" in wanted and not (ours and all(cell.right for cell in ours)) else 0


if __name__ == "__main__":
    sys.exit(main())
