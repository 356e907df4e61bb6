"""The elements of a JSON array, one after the other, from a file that may be larger than memory."""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from json import JSONDecodeError
from typing import IO, Any

from tensorix_api.errors import SettingsError

__all__ = ["json_array"]

_PIECE_BYTES = 256 << 10
_SPACE = re.compile(r"[ \t\r\n]*")
# An element that ends where the text read so far does may only be cut: its error lies that near the end at most.
_NEAR_THE_END = 12


class _Text:
    """The text of the file from some offset on, read as far as needed."""

    def __init__(self, file: IO[bytes], wrong: Callable[[int, str], SettingsError], most_bytes: int) -> None:
        self.wrong = wrong
        self._file = file
        self._most_bytes = most_bytes
        self._decode = getincrementaldecoder("utf-8")()
        self.offset = 3 if file.read(3) == b"\xef\xbb\xbf" else 0
        file.seek(self.offset)
        self.text = ""
        self.at = 0
        """Up to here it is done with; `offset` is the byte in the file."""
        self.ended = False

    def go_to(self, at: int) -> None:
        self.offset += len(self.text[self.at : at].encode())
        self.at = at

    def more(self) -> bool:
        """Read on, and forget what is done with; False at the end of the file."""
        if self.ended:
            return False
        left = len(self.text) - self.at
        if left > self._most_bytes:
            raise self.wrong(self.offset, f"an entry of more than {self._most_bytes >> 20} MiB")
        # As much again as there is: a long element is then tried a few times only.
        data = self._file.read(max(_PIECE_BYTES, left))
        self.ended = not data
        try:
            fresh = self._decode.decode(data, final=self.ended)
        except UnicodeDecodeError:
            raise self.wrong(self.offset, "no UTF-8 text") from None
        self.text = self.text[self.at :] + fresh
        self.at = 0
        return not self.ended

    def skip_space(self) -> str:
        """The next character that is no space, "" at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            assert found is not None
            self.go_to(found.end())
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def value(self) -> Any:
        """The value that begins here."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _NEAR_THE_END
                if not cut or not self.more():
                    self.go_to(min(error.pos, len(self.text)))
                    raise self.wrong(self.offset, f"no JSON: {error.msg}") from None
            except RecursionError:
                raise self.wrong(self.offset, "nested too deep") from None
            else:
                self.go_to(end)
                return value


_DECODER = json.JSONDecoder()


def json_array(
    file: IO[bytes], wrong: Callable[[int, str], SettingsError], most_bytes: int
) -> Iterator[tuple[int, int, Any]]:
    """Each element with its first byte and the one behind it. Raises what `wrong` makes of a place and a reason.

    Reading stays a megabyte ahead of nothing: only the piece with the element is in memory, so that is what bounds an
    element's length (`most_bytes`).
    """
    text = _Text(file, wrong, most_bytes)
    if text.skip_space() != "[":
        raise wrong(text.offset, "no JSON array")
    text.go_to(text.at + 1)
    if text.skip_space() == "]":
        return
    while True:
        if text.skip_space() not in ("{", "["):
            raise wrong(text.offset, "an entry is neither an object nor a list")
        begin = text.offset
        value = text.value()
        yield begin, text.offset, value
        mark = text.skip_space()
        if mark == "]":
            return
        if mark != ",":
            raise wrong(text.offset, "the array is cut or an entry is not followed by a comma")
        text.go_to(text.at + 1)
