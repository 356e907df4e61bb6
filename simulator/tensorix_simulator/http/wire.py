"""Bytes as they go out: response heads, JSON, and the chunks of a body of unknown length."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Any

__all__ = ["Headers", "encode_json", "frame", "framed_apart", "head", "last_chunk"]

Headers = list[tuple[str, str]]


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def head(status: int, headers: Headers, server: str | None = "tensorix-simulator") -> bytes:
    """A status line and headers, `date` and (unless None) `server` among them."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", f"date: {_date(int(time.time()))}"]
    if server is not None:
        lines.append(f"server: {server}")
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def encode_json(value: Any) -> bytes:
    """JSON in ASCII without spaces: whatever a client sent, lone surrogates too, can be repeated."""
    return json.dumps(value, separators=(",", ":")).encode()


def frame(payload: bytes, chunked: bool) -> bytes:
    """A part of a body, as a chunk of HTTP's where its length is not known beforehand."""
    return b"%x\r\n%s\r\n" % (len(payload), payload) if chunked else payload


def last_chunk(chunked: bool) -> bytes:
    """What ends a body of unknown length."""
    return b"0\r\n\r\n" if chunked else b""


def framed_apart(data: bytes, chunked: bool) -> Iterator[bytes]:
    """What `frame` and `last_chunk` made, again, each byte of a payload framed by itself."""
    if not chunked:
        for at in range(len(data)):
            yield data[at : at + 1]
        return
    at = 0
    while at < len(data):
        begin = data.index(b"\r\n", at) + 2
        end = begin + int(data[at : begin - 2], 16)
        if begin == end:
            yield last_chunk(chunked)
        for place in range(begin, end):
            yield frame(data[place : place + 1], chunked)
        at = end + 2
