"""On which line what stands: each value of these texts is the number of its own line."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tensorix_probes.configuration.toml_lines import Path, lines_of


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _leaves(inner, (*path, at))
    else:
        yield path, value


def _check(text: str) -> None:
    data, found = tomllib.loads(text), lines_of(text)
    for path, value in _leaves(data):
        assert found[path] == (value if isinstance(value, int) else int(str(value)[:4])), (path, text)
        for length in range(1, len(path)):
            assert 1 <= found[path[:length]] <= found[path]
    # Nothing is found that is not there.
    for path in found:
        at: Any = data
        for step in path:
            at = at[step]


def test_every_kind_of_name_table_and_value_is_followed() -> None:
    """Headers, arrays of tables, dotted and quoted names, inline tables, arrays over lines, texts with TOML in them."""
    _check(
        'a = 1 # [x]\n"b.c" = 2\nd."e f".g = 3\n'
        "[t] # 4\nx = 5\n[t.u]\nx = 7\n"
        "[[l]]\nx = 9\n[l.s]\ny = 11\n[[l.m]]\nz = 13\n[[l.m]]\nz = 15\n"
        "[[l]]\nx = 17\nn = { p = 18, q.r = 18, s = [18, { t = 18 }] }\n"
        "v = [\n  20, # ]\n\n  22,\n  { w = 23 }, [23, 23],\n24\n]\n"
        'k = "0026 \\" ] # ="\nk2 = \'0027 [[l]]\'\nk3 = """0028\n[no]\nx = 5 \\""" " ""\n"""\n'
        "k4 = '''0032\n'''\n'k5' = 0x22\nk6 = 0035-01-01 00:00:00.5Z\nk7 = 36\n"
        "[ x . 'y' ]\nz=38\n[[ o.p ]]\n[[o.p]]\nq=41\n"
    )


def test_tables_stand_where_their_headers_are() -> None:
    """A table has the line of its header, an element of an array of tables that of its own."""
    found = lines_of("[a.b]\n\n[[c]]\n[[c]]\nd.e = 1\n[c.f]\n[a]\n")
    assert found == {
        ("a",): 1,
        ("a", "b"): 1,
        ("c",): 3,
        ("c", 0): 3,
        ("c", 1): 4,
        ("c", 1, "d"): 5,
        ("c", 1, "d", "e"): 5,
        ("c", 1, "f"): 6,
    }


class _Writer:
    """Writes random TOML whose whole numbers are the lines that they stand on."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self.lines: list[str] = []
        self._count = 0

    def _one_of(self, *choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def _name(self) -> str:
        self._count += 1
        return str(self._one_of(f"n{self._count}", f'"n {self._count}]"', f"'n=[{self._count}#'", f"{self._count}"))

    def _value(self, depth: int) -> str:
        kind = self._one_of("number", "number", "text", "list", "table") if depth < 3 else "number"
        number = len(self.lines) + 1
        if kind == "number":
            return str(number)
        if kind == "text":
            return str(
                self._one_of(
                    f'"{number:04} ] \\" #"', f"'{number:04} = [['", f'"""{number:04} """""', f"'''{number:04}'''"
                )
            )
        if kind == "table":
            pairs = [f"{self._name()} = {self._value(depth + 1)}" for _ in range(self._one_of(0, 1, 2))]
            # An inline table stays on its line: of a list in it over lines no more is asked.
            return "{ " + ", ".join(pairs) + " }" if not any("\n" in pair for pair in pairs) else str(number)
        return "[" + ", ".join(self._value(4) for _ in range(self._one_of(0, 1, 2))) + "]"

    def _pair(self) -> None:
        dotted = "".join(f"{self._name()} . " for _ in range(self._one_of(0, 0, 1, 2)))
        start = f"{self._one_of('', '  ')}{dotted}{self._name()} = "
        if self._one_of(True, False, False):
            self.lines.append(f"{start}[ # [x]")
            for _ in range(self._one_of(0, 1, 3)):
                self.lines.append(f"  {self._value(1)}, # ]")
                if self._one_of(True, False):
                    self.lines.append("")
            self.lines.append("]")
        else:
            self.lines.append(start + self._value(0) + self._one_of("", "  # [t] = 1"))

    def write(self) -> str:
        several: list[str] = []
        for _ in range(self._one_of(1, 3, 6)):
            kind = self._one_of("pairs", "table", "new list", "more", "below")
            if kind == "table":
                self.lines.append(f"[{self._name()} . {self._name()}]")
            elif kind == "new list" or (kind in ("more", "below") and not several):
                several.append(self._name())
                self.lines.append(f"[[{several[-1]}]]")
            elif kind == "more":
                self.lines.append(f"[[ {self._one_of(*several)} ]] # more")
            elif kind == "below":
                self.lines.append(f"[{self._one_of(*several)}.{self._name()}]")
            for _ in range(self._one_of(0, 1, 2)):
                self._pair()
        return str(self._one_of("\n", "\r\n")).join(self.lines)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_texts_are_followed(data: st.DataObject) -> None:
    """Whatever the mix of tables, lists, names and comments, each value is found on its line."""
    _check(data.draw(st.composite(lambda draw: _Writer(draw).write())()))
