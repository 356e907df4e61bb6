"""A key that cannot be shown by accident, and the redaction of text that may repeat it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NoReturn
from urllib.parse import quote

__all__ = ["Redactor", "Secret"]

_MASK = "[redacted]"
# Anything that looks like a bearer credential goes, whoever it belongs to.
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=\-]{8,}")
_SK = re.compile(r"\bsk-[A-Za-z0-9_\-]{8,}")
# Secrets of fewer characters would be found everywhere.
_SHORTEST = 4
# Of the credentials that are told by their look.
_LONGEST_OTHER = 1_000


class Secret:
    """A secret string. Only `reveal()` gives it back; repr, str, format, pickle and copy never do.

    Two secrets are equal when their values are; a secret is never equal to a plain string.
    """

    __slots__ = ("__reveal",)

    def __init__(self, value: str) -> None:
        # A closure rather than an attribute: a traceback's locals, `vars()` and debuggers show a function.
        self.__reveal: Callable[[], str] = lambda: value

    def reveal(self) -> str:
        """The secret itself. Call it only where the bytes go on the wire."""
        return self.__reveal()

    @property
    def alias(self) -> str:
        """A short name to tell keys apart in records: `key-` and 8 hex digits that cannot be turned back.

        The digits are of an scrypt hash, so that a short key cannot be found by trying.
        """
        digest = hashlib.scrypt(_bytes(self.reveal()), salt=b"tensorix key alias", n=2**12, r=8, p=1, dklen=4)
        return f"key-{digest.hex()}"

    def __repr__(self) -> str:
        return "Secret('**')"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other.reveal() == self.reveal()

    def __hash__(self) -> int:
        return hash((Secret, self.reveal()))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled or copied: pass the name of its environment variable instead")

    __copy__ = __reduce__

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__reduce__()


# No nesting writes more backslashes before a character than this; a run of any length would be walked again from
# each of its places.
_SLASHES = r"\\{1,16}"
# What a character of one byte can become at most, by the bounds in `_ways`.
_WIDEST = 24


@lru_cache(maxsize=1024)
def _ways(character: str) -> tuple[re.Pattern[str], ...]:
    """Patterns for one character of a key: as it is, or as JSON, URLs, HTML and Python write it, once or nested.

    Each matches in one way at most at a place of a text; two of them may match there.
    """
    code = ord(character)
    units = character.encode("utf-16-be", "surrogatepass")
    # These begin differently, so one match is all there is.
    alone = [
        re.escape(character),
        "".join(f"%(?:25){{0,4}}{byte:02x}" for byte in _bytes(character)),
        "".join(rf"{_SLASHES}u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)),
        rf"&(?:amp;){{0,3}}\#(?:0{{0,6}}{code}|x0{{0,5}}{code:x});",
    ]
    if code < 256:
        alone.append(rf"{_SLASHES}x{code:02x}")
    if character in "\"'/":
        alone.append(_SLASHES + re.escape(character))
    if name := {'"': "quot", "'": "apos", "<": "lt", ">": "gt"}.get(character):
        alone.append(f"&(?:amp;){{0,3}}{name};")
    # `%`, `&` and backslash are also how an escape begins, and where it ends shows by what follows.
    several = {
        "%": [f"%(?:25){{{times}}}" for times in range(5)],
        "&": [f"&(?:amp;){{{times}}}" for times in range(5)],
        "\\": [rf"\\{{{times}}}" for times in range(1, 17)],
    }.get(character)
    if several is None:
        several = ["|".join(alone)]
    else:
        several.append("|".join(alone[1:]))
    return tuple(re.compile(way, re.IGNORECASE) for way in several)


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _encodings(value: str) -> set[str]:
    """Every spelling of the whole of `value` in which it could come back: hashed, in hex, in base64."""
    raw = _bytes(value)
    spellings = {raw.hex(), hashlib.sha256(raw).hexdigest(), hashlib.md5(raw, usedforsecurity=False).hexdigest()}
    # Inside a longer base64 text a value starts at one of three bit offsets; the characters that also hold bits
    # of a neighbour are left off at both ends.
    for offset in range(3):
        padded = base64.b64encode(b"\0" * offset + raw)
        core = padded[(0, 2, 3)[offset] : len(padded) - (0, 3, 2)[(len(raw) + offset) % 3]]
        if len(core) >= 6:
            text = core.decode()
            spellings |= {text, text.replace("+", "-").replace("/", "_"), quote(text, safe="")}
    return spellings


Spans = list[tuple[int, int]]


def _written_spans(value: str) -> Callable[[str], Spans]:
    """Finds where `value` stands in a text, in any writing of its characters.

    One pattern of the whole would take a second to compile for a long cookie, and where backslashes are many it could
    try their shares by the million: so its beginning is found by a pattern, and the rest is walked.
    """
    start = "".join(f"(?:{'|'.join(way.pattern for way in _ways(character))})" for character in value[:_SHORTEST])
    beginning = re.compile(start, re.IGNORECASE)

    def end(text: str, at: int, tried: set[tuple[int, int]]) -> int | None:
        ends = {at}
        for index, character in enumerate(value):
            ends = {at for at in ends if (index, at) not in tried}
            tried.update((index, at) for at in ends)
            ends = {found.end() for way in _ways(character) for at in ends if (found := way.match(text, at))}
            if not ends:
                return None
        return max(ends)

    def spans(text: str) -> Spans:
        found: Spans = []
        # What led nowhere from one beginning need not be tried from the next.
        at, tried = 0, set[tuple[int, int]]()
        while candidate := beginning.search(text, at):
            last = end(text, candidate.start(), tried)
            if last is None:
                at = candidate.start() + 1
            else:
                found.append((candidate.start(), last))
                at = last
                tried.clear()
        return found

    return spans


# Case aside, without the letters whose small form is two characters: places stay what they are.
_SMALL = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _encoded_spans(spellings: set[str]) -> Callable[[str], Spans]:
    """Finds where one of `spellings`, of ASCII letters of any case, stands in a text."""
    small = {spelling.translate(_SMALL) for spelling in spellings}

    def spans(text: str) -> Spans:
        found, text = [], text.translate(_SMALL)
        for spelling in small:
            at = text.find(spelling)
            while at >= 0:
                found.append((at, at + len(spelling)))
                at = text.find(spelling, at + len(spelling))
        return found

    return spans


class _Edges:
    """Finds what a cut left of a secret: its beginning at the end of a text, or its end at the beginning.

    Fewer than `_LEAST` characters are let be: they tell nothing, and common words would match. A cut changes no case,
    so the word "Invalid" at the head of a message is no part of a key that ends in "invalid".
    """

    _LEAST = 6

    def __init__(self, spellings: set[str]) -> None:
        least = self._LEAST

        def head(text: str) -> int:
            """How many of the text's last characters begin a spelling."""
            gram, longest = text[-least:], 0
            for spelling in spellings:
                # The longest first: where in the spelling could the text's last characters be?
                at = spelling.rfind(gram) if len(gram) == least else -1
                while at >= 0 and at + least > longest:
                    if text[-(at + least) :] == spelling[: at + least]:
                        longest = at + least
                    at = spelling.rfind(gram, 0, at + least - 1)
            return longest

        def tail(text: str) -> int:
            """How many of the text's first characters end a spelling."""
            gram, longest = text[:least], 0
            for spelling in spellings:
                at = spelling.find(gram) if len(gram) == least else -1
                while at >= 0 and len(spelling) - at > longest:
                    if text[: len(spelling) - at] == spelling[at:]:
                        longest = len(spelling) - at
                    at = spelling.find(gram, at + 1)
            return longest

        def cover(text: str, whole: bool) -> str:
            if whole and (length := head(text)):
                text = text[:-length] + _MASK
            if length := tail(text):
                text = _MASK + text[length:]
            return text

        self.cover = cover


class Redactor:
    """Removes secrets from text that came from elsewhere (a server's message, an exception).

    Known secrets go in every spelling: plain, percent-encoded, escaped, base64 at any alignment, hex and common hashes
    (a gateway's 429 holds a hash of the key), and what a cut left of them at either end of the text. Unknown bearer
    credentials and `sk-…` keys go by their look.
    """

    def __init__(self, *secrets: Secret | None) -> None:
        # As with Secret: no attribute that a traceback with locals would print.
        self.__substitute = _substitution([secret for secret in secrets if secret])

    def __repr__(self) -> str:
        return "Redactor()"

    def __call__(self, text: str, limit: int = 500) -> str:
        """`text` without secrets or control characters, at most `limit` characters long.

        Of a longer text only its beginning is looked at, so that it takes no time to speak of.
        """
        # Redacted before it is cut: a cut could leave half a key that no pattern knows.
        text, whole = self.__substitute(text, limit)
        text = _SK.sub(_MASK, _BEARER.sub(rf"\1 {_MASK}", text))
        text = "".join(character if character.isprintable() else " " for character in text)
        return text if whole and len(text) <= limit else text[: limit - 1] + "…"


def _substitution(secrets: list[Secret]) -> Callable[[str, int], tuple[str, bool]]:
    """What puts a mask in place of each of the secrets, in as much of a text as its first `limit` characters take.

    Also says whether that is the whole of it.
    """
    values = [secret.reveal() for secret in secrets if len(secret.reveal()) >= _SHORTEST]
    encodings = set().union(*map(_encodings, values))
    plain = {spelling for value in values for spelling in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
    cover = _Edges(encodings | plain).cover
    finders = [_encoded_spans(encodings), *map(_written_spans, values)]
    # No spelling of a secret is longer.
    longest = max((_WIDEST * len(_bytes(value)) for value in values), default=_LONGEST_OTHER)

    def substitute(text: str, limit: int) -> tuple[str, bool]:
        # What begins before `sure` ends before the window does, so none is seen by half. What masks take away may
        # bring what lies beyond the limit into it.
        sure = limit + longest
        whole = len(text) <= sure + longest
        window = text if whole else text[: sure + longest]
        sure = len(window) if whole else sure
        parts, at = [], 0
        for start, end in sorted(span for spans in finders for span in spans(window)):
            if start >= sure:
                break
            if start >= at:
                parts += [window[at:start], _MASK]
            at = max(at, end)
        parts.append(window[at:sure])
        return cover("".join(parts), whole), whole

    return substitute
