"""Columns in the order of the starts, however they lie in the files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from tensorix_records.columns import RecordColumns
from tensorix_reports.frames._held import HeldColumns


class _Columns:
    """Columns in pieces, as a run's files have them."""

    def __init__(self, **columns: list[pa.Array]) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return sum(map(len, next(iter(self._columns.values()))))

    def pieces(self, name: str, *, coded: bool = False) -> Iterator[Any]:
        assert not coded
        yield from self._columns[name]


def _held(**columns: list[list[Any]]) -> HeldColumns:
    arrays = {
        name: [pa.array(part, pa.string() if name == "text" else pa.int64()) for part in parts]
        for name, parts in columns.items()
    }
    return HeldColumns(cast(RecordColumns, _Columns(**arrays)))


ORDERS = [
    pytest.param([0, 1, 2, 3, 4, 5, 6], id="as they lie"),
    pytest.param([6, 0, 5, 1, 4, 2, 3], id="in another order"),
    pytest.param([5, 0, 3], id="some left out"),
    pytest.param([], id="all left out"),
]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([[1, None, 3], [4, 5], [6, 7]], id="small"),
        pytest.param([[1, None, 3], [2**40, 5], [6, None]], id="larger later on"),
        pytest.param([[-(2**40), 2, 3], [4, None], [6, 7]], id="larger at first"),
        pytest.param([[None, None, None], [4, 5], [None, 2**31]], id="a piece of nulls"),
        pytest.param([[-(2**31), 2, 3], [4, None], [6, 7]], id="the number that stands for null"),
        pytest.param([[None] * 3, [None] * 2, [None] * 2], id="nothing"),
        pytest.param([[8] * 3, [8] * 2, [8] * 2], id="the same everywhere"),
    ],
)
def test_numbers_follow_their_rows(parts: list[list[int | None]], order: list[int]) -> None:
    """Each number is in its row, NaN for null, whatever the widths of the pieces."""
    held = _held(number=parts)
    held.keep(np.array(order, dtype=np.int64))
    every = [number for part in parts for number in part]
    wanted = [np.nan if (number := every[place]) is None else float(number) for place in order]
    assert np.array_equal(held.numbers("number"), wanted, equal_nan=True)


@pytest.mark.parametrize("order", ORDERS)
def test_instants_and_known_texts_follow_their_rows(order: list[int]) -> None:
    """So do Unix nanoseconds, to the last digit and 0 for null, and which rows have a text."""
    instants: list[int | None] = [1_790_000_000_000_000_001 + place for place in range(6)]
    instants.append(None)
    texts = ["a", None, "b", None, None, "c", "d"]
    held = _held(instant=[instants[:3], instants[3:]], text=[texts[:2], texts[2:]])
    held.keep(np.array(order, dtype=np.int64))
    assert held.instants("instant").tolist() == [instants[place] or 0 for place in order]
    assert held.known("text").tolist() == [texts[place] is not None for place in order]
