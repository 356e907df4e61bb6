"""A key that cannot be shown by accident, and the redaction of text that may repeat it."""

from __future__ import annotations

import base64
import hashlib
import re
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
        self.__reveal = lambda: value

    def reveal(self) -> str:
        """The secret itself. Call it only where the bytes go on the wire."""
        return self.__reveal()

    @property
    def alias(self) -> str:
        """A short name to tell keys apart in records: `key-` and 8 hex digits that cannot be turned back.

        The digits are of an scrypt hash, so that a short key cannot be found by trying.
        """
        digest = hashlib.scrypt(self.reveal().encode(), salt=b"tensorix key alias", n=2**12, r=8, p=1, dklen=4)
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


def _encodings(value: str) -> set[str]:
    """Every spelling of `value` in which it could come back: plain, percent-encoded, escaped, hashed, base64."""
    raw = value.encode()
    spellings = {value, quote(value, safe=""), quote(value), raw.hex(), value.encode("unicode_escape").decode()}
    spellings |= {spelling.replace("%", "%25") for spelling in list(spellings) if "%" in spelling}
    spellings |= {hashlib.sha256(raw).hexdigest(), hashlib.md5(raw, usedforsecurity=False).hexdigest()}
    # Inside a longer base64 text a value starts at one of three bit offsets; the characters that also hold bits
    # of a neighbour are left off at both ends.
    for offset in range(3):
        padded = base64.b64encode(b"\0" * offset + raw)
        core = padded[(0, 2, 3)[offset] : len(padded) - (0, 3, 2)[(len(raw) + offset) % 3]]
        if len(core) >= 6:
            text = core.decode()
            spellings |= {text, text.replace("+", "-").replace("/", "_"), quote(text, safe="")}
    return {spelling for spelling in spellings if len(spelling) >= 4}


class Redactor:
    """Removes secrets from text that came from elsewhere (a server's message, an exception).

    Known secrets go in every spelling: plain, percent-encoded, base64 at any alignment, hex and common hashes
    (a gateway's 429 holds a hash of the key). Unknown bearer credentials and `sk-…` keys go by their look.
    """

    def __init__(self, *secrets: Secret | None) -> None:
        spellings: set[str] = set()
        for secret in secrets:
            if secret:
                spellings |= _encodings(secret.reveal())
        ordered = sorted(spellings, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, ordered)), re.IGNORECASE) if ordered else None
        # As with Secret: not an attribute that a traceback with locals would print.
        self.__substitute = (lambda text: pattern.sub(_MASK, text)) if pattern else (lambda text: text)

    def __repr__(self) -> str:
        return "Redactor()"

    def __call__(self, text: str, limit: int = 500) -> str:
        """`text` without secrets or control characters, at most `limit` characters long."""
        # Redacted before it is cut: a cut could leave half a key that no pattern knows.
        text = self.__substitute(text)
        text = _SK.sub(_MASK, _BEARER.sub(rf"\1 {_MASK}", text))
        text = "".join(character if character.isprintable() else " " for character in text)
        return text if len(text) <= limit else text[: limit - 1] + "…"
