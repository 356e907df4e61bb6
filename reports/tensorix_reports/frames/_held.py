"""Columns of a run in a compact form, in the order of the starts, read when asked for and let go when others are."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tensorix_records.columns import RecordColumns

__all__ = ["Chosen", "Codes", "HeldColumns", "smallest"]

Chosen: TypeAlias = "slice | NDArray[np.int64] | NDArray[np.int32]"
"""Rows in order: a stretch of them, or their places."""

_NULL = -(2**31)
_FEW = 16
_ALL = slice(None)
# Of ten million rows some eight columns of times, and all that is small.
_MOST_BYTES = 600_000_000


@dataclass(frozen=True, slots=True)
class Codes:
    """A text column: the place of each row's text in `values`, -1 where there is none."""

    codes: NDArray[Any]
    values: list[Any]

    def of(self, chosen: Chosen) -> Codes:
        """Those of some rows."""
        return Codes(self.codes[chosen], self.values)

    def objects(self) -> NDArray[Any]:
        """The texts themselves, None where there is none."""
        texts = np.empty(len(self.values) + 1, dtype=object)
        texts[:-1] = self.values
        return np.asarray(texts[self.codes])

    def equal(self, *wanted: Any) -> NDArray[np.bool_]:
        """Which rows have one of these texts; None asks for those that have none."""
        answers = np.array([value in wanted for value in self.values] + [None in wanted], dtype=np.bool_)
        return np.asarray(answers[self.codes])


def smallest(codes: NDArray[Any], count: int) -> NDArray[Any]:
    """Codes in as few bytes as they take."""
    return codes.astype(np.int8 if count < 128 else np.int16 if count < 32_768 else np.int32)


class HeldColumns:
    """Every column of the rows that are kept; nothing but what was asked for lately is in memory.

    Several threads may ask at once: a column is read by the first that asks for it, and the others wait for that one.
    """

    def __init__(self, records: RecordColumns) -> None:
        self._records = records
        self._order: Chosen = slice(0, len(records))
        self._rows: NDArray[Any] | None = None
        self._held: OrderedDict[str, Any] = OrderedDict()
        self._made: dict[str, Codes] = {}
        self._lock = Lock()
        self._reading: dict[str, Lock] = {}

    def __len__(self) -> int:
        return self._order.stop if isinstance(self._order, slice) else len(self._order)

    def keep(self, places: NDArray[np.int64]) -> None:
        """Keep these places of the files, in this order."""
        in_place = places.size == len(self._records) and bool((np.diff(places) == 1).all())
        self._order = slice(0, places.size) if in_place else places.astype(np.int32) if places.size < 2**31 else places
        self._rows = None
        if not isinstance(self._order, slice):
            # Where each record of the files goes: its row, -1 for none.
            self._rows = np.full(len(self._records), -1, self._order.dtype)
            self._rows[places] = np.arange(places.size, dtype=self._order.dtype)
        self._held.clear()

    def codes(self, name: str) -> Codes:
        """A text (or a boolean) as codes."""
        if name in self._made:
            return self._made[name]
        coded: Codes = self._of(f"codes {name}", lambda: self._coded(name))
        return coded

    def numbers(self, name: str, chosen: Chosen = _ALL) -> NDArray[np.float64]:
        """A numeric column of some rows, NaN where it is null. Relative nanoseconds stay exact to 104 days."""
        packed = self._of(name, lambda: self._packed(name))
        if isinstance(packed, float):
            return np.broadcast_to(np.float64(packed), self._count(chosen))
        part = packed[chosen]
        return _as_floats(part)

    def known(self, name: str) -> NDArray[np.bool_]:
        """Which rows have a text, without their texts: of a million messages each may be another."""
        return np.asarray(
            self._of(f"known {name}", lambda: self._filled(name, np.bool_, lambda piece: piece.is_valid()))
        )

    def _count(self, chosen: Chosen) -> int:
        return len(range(*chosen.indices(len(self)))) if isinstance(chosen, slice) else len(chosen)

    def texts_at(self, name: str, places: Chosen, *, few: int = _FEW) -> NDArray[Any] | None:
        """The texts of a few rows without reading the column; None where it is held, or they are not few."""
        count = self._count(places)
        if count > few or name in self._made or f"codes {name}" in self._held:
            return None
        at = np.arange(self._order.start, self._order.stop) if isinstance(self._order, slice) else self._order
        texts = np.empty(count, dtype=object)
        texts[:] = self._records.texts_at(name, at[places].tolist())
        return texts

    def instants(self, name: str) -> NDArray[np.int64]:
        """A column of Unix nanoseconds, which no float holds; 0 where it is null."""
        return np.asarray(
            self._of(f"instants {name}", lambda: self._filled(name, np.int64, lambda piece: pc.fill_null(piece, 0)))
        )

    def keep_always(self, name: str, codes: Codes) -> None:
        """Hold codes that were computed, under a name of their own."""
        self._made[name] = codes

    def _filled(self, name: str, kind: type, made: Any) -> NDArray[Any]:
        """A column in order, of what `made` gives of each piece of it."""
        values: NDArray[Any] = np.empty(len(self), kind)
        begin = 0
        for piece in self._records.pieces(name):
            self._put(values, begin, made(piece).to_numpy(zero_copy_only=False))
            begin += len(piece)
        return values

    def _put(self, values: NDArray[Any], begin: int, part: NDArray[Any]) -> None:
        """Put what stands in the files from `begin` on into its rows: a piece at a time, so that none lies about."""
        if self._rows is None:
            values[begin : begin + len(part)] = part
            return
        rows = self._rows[begin : begin + len(part)]
        if len(self) < len(self._rows):
            part, rows = part[rows >= 0], rows[rows >= 0]
        values[rows] = part

    def _packed(self, name: str) -> Any:
        values: NDArray[Any] = np.empty(len(self), np.int32)
        begin, nulls, low, high = 0, 0, None, None
        for piece in self._records.pieces(name):
            ends = pc.call_function("min_max", [piece]).as_py()
            nulls += piece.null_count
            small = True
            if ends["min"] is not None:
                low = ends["min"] if low is None else min(low, ends["min"])
                high = ends["max"] if high is None else max(high, ends["max"])
                small = pa.types.is_integer(piece.type) and ends["min"] > _NULL and ends["max"] < 2**31
            if not small:
                values = _as_floats(values)
            kind, null = (pa.int32(), _NULL) if values.dtype == np.int32 else (pa.float64(), float("nan"))
            self._put(values, begin, np.asarray(pc.fill_null(pc.cast(piece, kind, safe=False), null)))
            begin += len(piece)
        if low is None or high is None:
            return float("nan")
        if low == high and not nulls and abs(low) < 2**53:
            return float(low)
        return values

    def _coded(self, name: str) -> Codes:
        column = self._records.column(name, coded=True)
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        column = column.unify_dictionaries()
        values = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
        parts = [smallest(np.asarray(pc.fill_null(one.indices, -1)), len(values)) for one in column.chunks]
        codes = np.concatenate(parts) if parts else np.zeros(0, np.int8)
        return Codes(codes if isinstance(self._order, slice) else codes[self._order], values)

    def _of(self, name: str, read: Any) -> Any:
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
                return self._held[name]
            mine = self._reading.setdefault(name, Lock())
        with mine:
            with self._lock:
                if name in self._held:
                    return self._held[name]
            value = read()
            with self._lock:
                self._held[name] = value
                while len(self._held) > 1 and sum(map(_bytes, self._held.values())) > _MOST_BYTES:
                    self._held.popitem(last=False)
        return value


def _as_floats(packed: NDArray[Any]) -> NDArray[np.float64]:
    if packed.dtype == np.float64:
        return packed
    return np.where(packed == _NULL, np.nan, packed)


def _bytes(held: Any) -> int:
    if isinstance(held, Codes):
        return int(held.codes.nbytes) + 100 * len(held.values)
    return int(held.nbytes) if isinstance(held, np.ndarray) else 0
