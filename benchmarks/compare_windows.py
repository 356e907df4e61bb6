"""Does the report's table of windows agree with the server's own log?

    python benchmarks/compare_windows.py RUN GATEWAY.log

The log holds one line a response: Unix time in seconds, then an access-log line as uvicorn writes it
(`… "POST /v1/chat/completions HTTP/1.1" 429 …`). `docs/sample-run/README.md` says how to have a gateway write one. For
each window that was seen whole, prints the counts of 200 and 429 as the report has them and as the log does; exits with
status 1 where any differs, or where there is none to compare.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

_LINE = re.compile(r'^(\d+\.\d+) .*"POST [^"]*/chat/completions[^"]*" (\d{3})\b')


def windows_of(run: Path) -> list[dict[str, Any]]:
    """The whole windows of the run's only key."""
    summary = json.loads((run / "report" / "summary.json").read_text(encoding="utf-8"))
    (key,) = summary["rate_limit"]["keys"]
    return [window for window in key["windows"] if window["complete"]]


def responses_of(log: Path) -> list[tuple[float, str]]:
    """When each response was logged, and its status."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [(float(found[1]), found[2]) for found in map(_LINE.match, lines) if found]


def main() -> int:
    """Print the comparison."""
    run, responses = Path(sys.argv[1]), responses_of(Path(sys.argv[2]))
    windows = windows_of(run)
    print("| window opened, UTC s | report: 200 | 429 | other | log: 200 | 429 | other | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    agree = bool(windows)
    for window in windows:
        start = window["start_unix_ns"] / 1e9
        end = start + window["end_s"] - window["start_s"]
        logged = Counter(status for when, status in responses if start <= when < end)
        report = (window["passed"], window["refused"], window["other"])
        other = sum(logged.values()) - logged["200"] - logged["429"]
        same = report == (logged["200"], logged["429"], other)
        agree &= same
        cells = [f"{start:.3f}", *map(str, report), str(logged["200"]), str(logged["429"]), str(other)]
        print(f"| {' | '.join(cells)} | {'equal' if same else 'DIFFERENT'} |")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
