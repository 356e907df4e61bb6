"""The requests of a run as columns: `requests["status"]` is a Series, `requests[["at_s", "status"]]` a DataFrame.

Both are made when asked for. What is chosen of them, by a mask or by places, is such requests again and costs nothing
but the choice; a Series' index is the place of its rows among all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, overload

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tensorix_records._schema import SCHEMA
from tensorix_reports.frames._held import Chosen, Codes, HeldColumns

__all__ = ["Requests"]


class Requests:
    """Some of a run's requests, in the order of their starts.

    To the functions of the records room it is a table of records: `column`, `filter`, `take` and its length.
    """

    def __init__(self, held: HeldColumns, origin_unix_ns: int, chosen: Chosen | None = None) -> None:
        self._held = held
        self._origin_unix_ns = origin_unix_ns
        self._chosen: Chosen = slice(0, len(held)) if chosen is None else chosen

    def __len__(self) -> int:
        return self._chosen.stop - self._chosen.start if isinstance(self._chosen, slice) else len(self._chosen)

    def __repr__(self) -> str:
        return f"Requests({len(self):,})"

    @overload
    def __getitem__(self, wanted: str) -> pd.Series: ...
    @overload
    def __getitem__(self, wanted: list[str]) -> pd.DataFrame: ...
    @overload
    def __getitem__(self, wanted: pd.Series | NDArray[Any]) -> Requests: ...
    def __getitem__(self, wanted: Any) -> Any:
        if isinstance(wanted, str):
            return pd.Series(self.array(wanted), index=self.index, name=wanted, copy=False)
        if isinstance(wanted, list):
            return pd.DataFrame({name: self.array(name) for name in wanted}, index=self.index, copy=False)
        return self.of(np.asarray(wanted))

    def __iter__(self) -> Iterator[str]:
        raise TypeError("requests are asked for by column: requests['status'], requests[['at_s', 'status']]")

    @property
    def index(self) -> pd.Index:
        """The places of these requests among all."""
        chosen = self._chosen
        return pd.RangeIndex(chosen.start, chosen.stop) if isinstance(chosen, slice) else pd.Index(chosen)

    def of(self, chosen: NDArray[Any]) -> Requests:
        """Those of a mask, or of places among these."""
        places = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        places = places.astype(np.int32 if len(self._held) < 2**31 else np.int64, copy=False)
        if not places.size:
            return Requests(self._held, self._origin_unix_ns, slice(0, 0))
        first, last = int(places[0]), int(places[-1])
        together = last - first + 1 == places.size and (chosen.dtype == np.bool_ or bool((np.diff(places) == 1).all()))
        if isinstance(self._chosen, slice):
            begin = self._chosen.start
            mine: Chosen = slice(begin + first, begin + last + 1) if together else places + begin
        else:
            mine = self._chosen[places]
        return Requests(self._held, self._origin_unix_ns, mine)

    def parts(self, name: str) -> Iterator[tuple[str | None, Requests]]:
        """These requests by the text of a column, in the order of its first appearance; None's own among them."""
        return self.parted(self.codes(name))

    def parted(self, coded: Codes) -> Iterator[tuple[str | None, Requests]]:
        """The same by codes of their own."""
        # Stable, so that each part stays in the order of time; of so few bytes it is a radix sort.
        order = np.argsort(coded.codes, kind="stable")
        if not len(order):
            return
        begins = np.flatnonzero(np.diff(coded.codes[order], prepend=coded.codes[order[0]] - 1))
        for part in sorted(np.split(order, begins[1:]), key=lambda part: int(part[0])):
            code = int(coded.codes[part[0]])
            yield (coded.values[code] if code >= 0 else None), self if len(part) == len(self) else self.of(part)

    def known(self, name: str) -> NDArray[np.bool_]:
        """Which of them have a text: quicker than the texts, of which each may be another."""
        return self._held.known(name)[self._chosen]

    def texts(self, name: str, places: NDArray[Any]) -> list[str | None]:
        """The texts of a few of them; nothing but the parts that hold them is read."""
        mine = self.of(places)
        found = self._held.texts_at(name, mine._chosen, few=len(mine))
        return list(mine.codes(name).objects() if found is None else found)

    def codes(self, name: str) -> Codes:
        """A text as codes: what groups and compares millions of them in no time."""
        return self._held.codes(name).of(self._chosen)

    def array(self, name: str) -> NDArray[Any]:
        """A column as NumPy's: floats with NaN, texts as objects with None, `start_unix_ns` as integers."""
        if name == "at_s":
            return (self.array("start_unix_ns") - self._origin_unix_ns) / 1e9
        if name == "done_s":
            end, headers = self.array("end_at_ns"), self.array("headers_at_ns")
            took = np.where(np.isnan(end), np.where(np.isnan(headers), 0.0, headers), end)
            return np.asarray(self.array("at_s") + took / 1e9)
        if name == "start_unix_ns":
            return self._held.instants(name)[self._chosen]
        if name != "kind" and SCHEMA.field(name).type == pa.string():
            few = self._held.texts_at(name, self._chosen)
            return self.codes(name).objects() if few is None else few
        if name == "kind" or SCHEMA.field(name).type in (pa.string(), pa.bool_()):
            return self.codes(name).objects()
        return self._held.numbers(name, self._chosen)

    # as a table of records

    @property
    def num_rows(self) -> int:
        """How many."""
        return len(self)

    def column(self, name: str) -> Any:
        """A column as Arrow's: texts as codes into a dictionary, numbers as floats with NaN."""
        kind = SCHEMA.field(name).type
        if kind == pa.string():
            coded = self.codes(name)
            codes = pa.array(coded.codes.astype(np.int32), mask=coded.codes < 0)
            return pa.DictionaryArray.from_arrays(codes, pa.array(coded.values, pa.string()))
        if kind == pa.bool_():
            coded = self.codes(name)
            return pa.array(coded.equal(True), mask=coded.codes < 0)
        return pa.array(self.array(name))

    def filter(self, mask: Any) -> Requests:
        """Those of a mask."""
        return self.of(np.asarray(mask, dtype=np.bool_))

    def take(self, places: Any) -> Requests:
        """Those at these places."""
        return self.of(np.asarray(places, dtype=np.int64))
