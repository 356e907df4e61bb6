"""Mistakes in a configuration: on which line each stands, what it is about, and what to write instead."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tensorix_probes.configuration.outside import Surroundings
from tensorix_probes.configuration.schema import Root, Section, TargetSection
from tensorix_probes.configuration.toml_lines import Path, lines_of
from tensorix_probes.configuration.values import shown, similar, unlike_a_key

__all__ = ["Mistakes"]

_Section = TypeVar("_Section", bound=Section)

_KEY_WORDS = re.compile(r"(?i)(api|access|auth)?[_-]?(key|token|secret|password|bearer|authorization)")
_ELSEWHERE = {
    "target": (
        'a key does not belong into a file: write key_env = "TENSORIX_API_KEY", the name of a variable, or key_file'
    ),
    "alerts": 'an address may be a secret: write webhook_env = "NAME", the name of a variable, or webhook_file',
    "history": 'a password does not belong into a file: write password_env = "NAME", the name of a variable',
}


class Mistakes:
    """The mistakes of one text, and which of its settings they leave without a value."""

    def __init__(self, place: str, text: str, data: Mapping[str, Any], around: Surroundings) -> None:
        self._place = place
        self._lines = lines_of(text)
        self._data = data
        self._around = around
        self._found: dict[str, int] = {}
        self.wrong: set[Path] = set()
        """The settings that have no value for a mistake of their own."""

    def told(self) -> list[str]:
        """A line each, in the order of the file."""
        return sorted(self._found, key=self._found.__getitem__)

    def add(self, path: Path, words: str) -> None:
        """A mistake in what stands at a path, or for a target perhaps among the defaults."""
        line = self._line(path)
        at = f", line {line}" if line else ""
        about = self._about(path)
        self._found.setdefault(f"{self._place}{at}: {about + ': ' if about else ''}{words}", line)

    def _line(self, path: Path) -> int:
        for candidate in (path, ("defaults", *path[2:]) if path[:1] == ("target",) else path):
            if candidate in self._lines:
                return self._lines[candidate]
        return self._line(path[:-1]) if path else 0

    def _about(self, path: Path) -> str:
        """`target 2 ("prod"), timeouts.connect`."""
        parts: list[str] = []
        if len(path) > 1 and isinstance(path[1], int):
            element = self._data[str(path[0])][path[1]]
            name = element.get("name") if isinstance(element, Mapping) else None
            parts.append(
                f"{path[0]} {path[1] + 1}" + (f' ("{unlike_a_key(name)}")' if isinstance(name, str) and name else "")
            )
            path = path[2:]
        names = ".".join(unlike_a_key(step) for step in path if isinstance(step, str))
        entries = "".join(f", entry {step + 1}" for step in path if isinstance(step, int))
        return ", ".join([*parts, *([names + entries] if names else [])])

    def read(self, model: type[_Section], data: Any, path: Path) -> _Section:
        """What of a section is right; the rest is added to the mistakes, and left out."""
        remaining = copy.deepcopy(data) if isinstance(data, Mapping) else {}
        if not isinstance(data, Mapping):
            self.add(path, f"{shown(data)} is no table: {_how_to_write(path)}")
            self.wrong.add(path)
        for _ in range(3):
            try:
                return model.model_validate(remaining, context=self._around)
            except ValidationError as error:
                wrong = error.errors(include_url=False)
                error.__traceback__ = None
            for one in wrong:
                self.add((*path, *one["loc"]), _words(one, model, path))
                self.wrong.add((*path, *one["loc"]))
                if _KEY_WORDS.fullmatch(str(one["loc"][-1])):
                    # That there is none in its right place is no mistake of its own.
                    self.wrong.add((*path, "key_env"))
            for one in sorted(wrong, key=lambda one: tuple(map(str, one["loc"])), reverse=True):
                _leave_out(remaining, one["loc"])
        return model.model_validate({}, context=self._around)

    def raw(self, path: Path) -> Any:
        """What was written at a path, for a target perhaps among the defaults; None where nothing was."""
        for candidate in (path, ("defaults", *path[2:]) if path[:1] == ("target",) else path):
            found: Any = self._data
            for step in candidate:
                if isinstance(found, Mapping):
                    found = found.get(str(step))
                else:
                    found = found[step] if isinstance(found, list) and isinstance(step, int) else None
            if found is not None:
                return found
        return None

    def is_wrong(self, path: Path, *names: str) -> bool:
        """Whether one of these settings of a target has no value for a mistake, in it or among the defaults."""
        settings = [(*start, *name.split(".")) for start in (path, ("defaults",)) for name in names]
        return any(wrong[: len(setting)] == setting[: len(wrong)] for setting in settings for wrong in self.wrong)


def _leave_out(data: Any, path: tuple[Any, ...]) -> None:
    for step in path[:-1]:
        if not (isinstance(data, dict) and step in data) and not (isinstance(data, list) and isinstance(step, int)):
            return
        data = data[step]
    if isinstance(data, dict):
        data.pop(path[-1], None)
    elif isinstance(data, list) and isinstance(path[-1], int):
        # Kept in place, so that the numbers of the others stay: a list with a hole is left out as a whole.
        data.clear()


def _how_to_write(path: Path) -> str:
    names = ".".join(str(step) for step in path if not isinstance(step, int))
    return (
        f"write its settings below [{names}]"
        if path[:1] not in (("target",), ("maintenance",)) or len(path) > 2
        else (f"write its settings below [[{names}]]")
    )


def _words(error: ErrorDetails, model: type[Section], path: Path) -> str:
    match error["type"]:
        case "value_error":
            return str(error.get("ctx", {}).get("error"))
        case "extra_forbidden":
            return _unknown(model, path, error["loc"])
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{shown(error['input'])} is no table: {_how_to_write((*path, *error['loc']))}"
        case "list_type":
            return f"{shown(error['input'])} is no list: write it in brackets, each entry in its form"
        case "missing":
            return "it is missing"
        case _:
            return error["msg"]


def _fields(model: type[Section]) -> dict[str, Any]:
    """What may stand in a section, by the name in the file; a section's own model, else None."""
    known = {}
    for field in model.model_fields.values():
        own = field.annotation if isinstance(field.annotation, type) and issubclass(field.annotation, Section) else None
        known[str(field.alias)] = own
    return known


def _unknown(model: type[Section], path: Path, loc: tuple[int | str, ...]) -> str:
    """What to say of a name that stands where nothing has that name."""
    name = str(loc[-1])
    above: list[tuple[str, type[Section]]] = []
    section, called = model, ".".join(str(step) for step in path if isinstance(step, str))
    for step in loc[:-1]:
        above.append((called, section))
        section, called = _fields(section)[str(step)], f"{called}.{step}" if called else str(step)
    if elsewhere := _secret(called, name):
        return elsewhere
    what = "there is no such setting"
    header = f"[[{called}]]" if called in ("target", "maintenance") else f"[{called}]"
    for outer, outer_section in reversed(above):
        if name in _fields(outer_section):
            return f"{what} here: write it above {header}" + (f", below [[{outer}]]" if outer == "target" else "")
    inner = [
        f"[{called}.{key}]" if called else f"[{key}]"
        for key, own in _fields(section).items()
        if own and name in _fields(own)
    ]
    if not called and name in _fields(TargetSection):
        inner = ["[[target]]", "[defaults]"]
    if inner:
        return f"{what} here: write it below {' or '.join(inner)}"
    if called and name in _fields(Root):
        return f"{what} here: it stands outside of {header}"
    return f"{what}: {similar(name, list(_fields(section)))}"


def _secret(called: str, name: str) -> str | None:
    first = "target" if called in ("target", "defaults") else called
    if first == "target" and _KEY_WORDS.fullmatch(name):
        return _ELSEWHERE["target"]
    if first == "alerts" and re.fullmatch(r"(?i)(web_?hook)?_?(ur[li]|address)?", name):
        return _ELSEWHERE["alerts"]
    return _ELSEWHERE["history"] if first == "history" and _KEY_WORDS.fullmatch(name) else None
