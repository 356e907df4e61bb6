"""The events of a run: lines of JSON, appended by several processes, any of which may be killed within a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["EVENTS_NAME", "EventReader"]

EVENTS_NAME = "events.jsonl"


class EventReader:
    """Reads the whole lines of a file that may grow; each call goes on where the last stopped.

    `broken` holds the numbers of the lines (from 1) that are no event, `rest` the length of an unfinished last line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._lines = 0
        self.broken: list[int] = []
        self.rest = 0

    def events(self) -> list[dict[str, Any]]:
        """The events that were not read yet. None is made up: what cannot be parsed is only counted."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole, newline, cut = data.rpartition(b"\n")
        self.rest = len(cut)
        self._offset += len(whole) + len(newline)
        found = []
        for line in whole.split(b"\n") if newline else []:
            self._lines += 1
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                event = None
            if isinstance(event, dict):
                found.append(event)
            else:
                self.broken.append(self._lines)
        return found

    def findings(self) -> list[str]:
        """What was wrong with the lines read so far, in plain words."""
        name = self._path.name
        found = [f"{name}: line {number} is no event and was left out" for number in self.broken]
        if self.rest:
            found.append(f"{name}: its last line is cut ({self.rest} bytes) and was left out")
        return found
