"""A key that cannot be shown by accident, and the redaction of text that may repeat it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import quote

__all__ = ["Redactor", "Secret"]

_MASK = "[redacted]"
# Anything that looks like a bearer credential goes, whoever it belongs to.
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=\-]{8,}")
_SK = re.compile(r"\bsk-[A-Za-z0-9_\-]{8,}")


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


def _written(character: str) -> str:
    """A pattern for one character of a key: as it is, or as JSON, URLs, HTML and Python write it, once or nested."""
    code = ord(character)
    units = character.encode("utf-16-be", "surrogatepass")
    ways = [
        "".join(f"%(?:25)*{byte:02x}" for byte in _bytes(character)),
        "".join(rf"\\+u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)),
        rf"&(?:amp;)*\#(?:0*{code}|x0*{code:x});",
    ]
    if code < 256:
        ways.append(rf"\\+x{code:02x}")
    if character in "\\\"'/":
        ways.append(r"\\+" + re.escape(character))
    if name := {"&": "amp", '"': "quot", "'": "apos", "<": "lt", ">": "gt"}.get(character):
        ways.append(f"&(?:amp;)*{name};")
    # Itself last: `&` is also how `&amp;` begins.
    return f"(?:{'|'.join([*ways, re.escape(character)])})"


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


class _Edges:
    """Finds what a cut left of a secret: its beginning at the end of a text, or its end at the beginning.

    Fewer than `_LEAST` characters are let be: they tell nothing, and common words would match.
    """

    _LEAST = 6

    def __init__(self, spellings: set[str]) -> None:
        least = self._LEAST
        lower = {spelling.lower() for spelling in spellings}
        heads = {spelling[:end] for spelling in lower for end in range(least, len(spelling))}
        tails = {spelling[start:] for spelling in lower for start in range(1, len(spelling) - least + 1)}
        # Nearly every text is through after a look at its first and last characters.
        grams = {part[-least:] for part in heads} | {part[:least] for part in tails}
        longest = max(map(len, lower), default=0)

        def cover(text: str) -> str:
            if text[-least:].lower() in grams:
                for length in range(min(longest, len(text)), least - 1, -1):
                    if text[-length:].lower() in heads:
                        text = text[:-length] + _MASK
                        break
            if text[:least].lower() in grams:
                for length in range(min(longest, len(text)), least - 1, -1):
                    if text[:length].lower() in tails:
                        return _MASK + text[length:]
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
        """`text` without secrets or control characters, at most `limit` characters long."""
        # Redacted before it is cut: a cut could leave half a key that no pattern knows.
        text = self.__substitute(text)
        text = _SK.sub(_MASK, _BEARER.sub(rf"\1 {_MASK}", text))
        text = "".join(character if character.isprintable() else " " for character in text)
        return text if len(text) <= limit else text[: limit - 1] + "…"


def _substitution(secrets: list[Secret]) -> Callable[[str], str]:
    """What puts a mask in place of each of the secrets."""
    # Fewer than 4 characters would be found everywhere.
    values = [secret.reveal() for secret in secrets if len(secret.reveal()) >= 4]
    if not values:
        return lambda text: text
    encodings = set().union(*map(_encodings, values))
    plain = {spelling for value in values for spelling in (value, quote(value, safe=""), json.dumps(value)[1:-1])}
    ordered = sorted(encodings, key=len, reverse=True)
    patterns = ["".join(map(_written, value)) for value in sorted(values, key=len, reverse=True)]
    pattern = re.compile("|".join([*patterns, *map(re.escape, ordered)]), re.IGNORECASE)
    cover = _Edges(encodings | plain).cover
    return lambda text: cover(pattern.sub(_MASK, text))
