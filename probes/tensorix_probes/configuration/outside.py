"""Settings that lie elsewhere: keys and addresses in the environment or in files, certificates, the history's address.

What is read here may be secret: it is a `Secret` at once, and no message repeats it, nor a text that stands where only
the name of a variable or file should and that may be the key itself.
"""

from __future__ import annotations

import os
import re
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import ValidationInfo

from tensorix_api import Secret
from tensorix_probes.configuration.values import NONE, WrongValueError, shown, text, unlike_a_key

__all__ = [
    "WRITE_INSTEAD",
    "Found",
    "Surroundings",
    "ca_bundle",
    "header_value",
    "history_url",
    "key_of_environment",
    "key_of_file",
]
__all__ += ["webhook_of_environment", "webhook_of_file", "with_password"]

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_MOST_BYTES = 65_536
_LIKE_A_SECRET = re.compile(r"(?i)\s*(sk-\S{6}|(bearer|basic)\s+\S)")
WRITE_INSTEAD = 'write { env = "NAME" }, the name of a variable, or { file = "NAME" }'
"""What to write where a value may be a key."""


@dataclass(frozen=True, slots=True)
class Found:
    """A secret and where it was found; None where it was said that there is none."""

    secret: Secret | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a configuration refers to, and what was noticed of it."""

    folder: Path
    """Of the configuration file: other files' names are taken from there."""
    environ: Mapping[str, str] = field(repr=False)
    secrets: list[Secret] = field(default_factory=list)
    """Those that were read: to be kept out of every message."""
    warnings: list[str] = field(default_factory=list)

    def keep(self, value: str) -> Secret:
        """The secret that a text is."""
        secret = Secret(value)
        self.secrets.append(secret)
        return secret


def _around(info: ValidationInfo) -> Surroundings:
    assert isinstance(info.context, Surroundings)
    return info.context


def _variable(value: Any, info: ValidationInfo) -> Found:
    """The secret in the variable that `value` names."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", value):
        raise WrongValueError(
            "this is no name of an environment variable: write one like TENSORIX_API_KEY, never the key"
        )
    # Anything else than capitals and underscores may be a key that was put here by mistake.
    called = f"the variable {value}" if re.fullmatch(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+", value) else "the variable it names"
    # Wrapped at once: no local of what raises below holds it.
    found = _around(info).keep(_around(info).environ.get(value, "").strip())
    if not found:
        unset = value not in _around(info).environ
        raise WrongValueError(f"{called} is {'not set' if unset else 'empty'}: set it to the secret, or name another")
    return Found(found, f"${value}")


def _path(value: Any, info: ValidationInfo, noun: str) -> Path:
    """The file that `value` names, with variables put in."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise WrongValueError(f"{shown(value)} is no name of a {noun}")
    environ = _around(info).environ

    def put_in(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not environ.get(name):
            more = ": systemd sets it for units with LoadCredential=" if name == "CREDENTIALS_DIRECTORY" else ""
            raise WrongValueError(f"the variable {name} in the file's name is not set{more}")
        return environ[name]

    path = Path(_VARIABLE.sub(put_in, value))
    try:
        return _around(info).folder / path.expanduser()
    except RuntimeError:
        raise WrongValueError("there is no such home folder") from None


def _called(value: str) -> str:
    """A file's name for a message; a key that was put in its place is not repeated."""
    return f"the file {shown(value)}" if "/" in value or "." in value.strip(".") else "the file it names"


def _content(value: Any, info: ValidationInfo, noun: str) -> Found:
    """The secret in the file that `value` names."""
    path = _path(value, info, noun)
    called = _called(value)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = _around(info).keep(file.read(_MOST_BYTES).decode("utf-8-sig").strip())
    except OSError as error:
        raise WrongValueError(f"{called} cannot be read: {error.strerror}") from None
    except ValueError:
        raise WrongValueError(f"{called} holds no text") from None
    if not found:
        raise WrongValueError(f"{called} is empty: put the secret in it, on one line")
    if any(character.isspace() for character in found.reveal()):
        raise WrongValueError(f"{called} holds more than one word: put the secret alone in it, on one line")
    if stat.S_ISREG(mode) and mode & stat.S_IROTH:
        _around(info).warnings.append(f"{called} can be read by everybody on this machine: chmod o-rwx it")
    return Found(found, str(value))


def _key(found: Found, called: str) -> Found:
    key = found.secret
    if key is not None and not all(0x21 <= ord(character) <= 0x7E for character in key.reveal()):
        raise WrongValueError(f"{called} holds a character that no header can carry: set it again")
    return found


_NOTHING = Found(None, None)


def key_of_environment(value: Any, info: ValidationInfo) -> Found:
    """The key in a variable; the text `none` says that the server takes none."""
    return _NOTHING if value == NONE else _key(_variable(value, info), "the variable")


def key_of_file(value: Any, info: ValidationInfo) -> Found:
    """The key in a file; white space around it is not part of it."""
    return _NOTHING if value == NONE else _key(_content(value, info, "file with the key"), "the file")


def _webhook(found: Found) -> Found:
    assert found.secret is not None
    try:
        parts = urlsplit(found.secret.reveal())
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits:
        raise WrongValueError("what it holds is no http(s) address: write it like https://hooks.example.com/…")
    return found


def webhook_of_environment(value: Any, info: ValidationInfo) -> Found:
    """The address in a variable."""
    return _NOTHING if value == NONE else _webhook(_variable(value, info))


def webhook_of_file(value: Any, info: ValidationInfo) -> Found:
    """The address in a file."""
    return _NOTHING if value == NONE else _webhook(_content(value, info, "file with the address"))


def header_value(value: Any, info: ValidationInfo) -> Secret:
    """The value of a header: a text, or `{ env = "NAME" }` or `{ file = "NAME" }`."""
    if isinstance(value, dict) and len(value) == 1 and set(value) <= {"env", "file"}:
        ((way, name),) = value.items()
        secret = (_variable(name, info) if way == "env" else _content(name, info, "file with a value")).secret
    elif isinstance(value, str):
        secret = _around(info).keep(value)
        if _LIKE_A_SECRET.match(value) or unlike_a_key(value) != value:
            raise WrongValueError(f"this may be a secret: {WRITE_INSTEAD}")
    else:
        raise WrongValueError('it is no value of a header: write a text, { env = "NAME" } or { file = "NAME" }')
    assert secret is not None
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", secret.reveal()):
        raise WrongValueError("the value holds a character that no header can carry, or a space at an end")
    return secret


def ca_bundle(value: Any, info: ValidationInfo) -> Path | None:
    """A file of PEM certificates that can be used, or `none`."""
    if value == NONE:
        return None
    path = _path(value, info, "file of certificates")
    try:
        path.open("rb").close()
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise WrongValueError(f"{_called(value)} holds no certificate in PEM") from None
    except OSError as error:
        raise WrongValueError(f"{_called(value)} cannot be read: {error.strerror}") from None
    return path


def history_url(value: Any, info: ValidationInfo) -> Secret | None:
    """`none`, a file's name or `postgresql://…`, with `${VARIABLE}` put in: percent-encoded within an address."""
    if value == NONE:
        return None
    found = str(text(most=2_000)(value)).strip()
    encode = "://" in found

    def put_in(match: re.Match[str]) -> str:
        secret = _around(info).keep(_around(info).environ.get(match[1], ""))
        if not secret:
            raise WrongValueError(f"the variable {match[1]} is not set")
        return quote(secret.reveal(), safe="") if encode else secret.reveal()

    url = Secret(re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", put_in, found))
    if "://" not in url.reveal():
        return Secret(str(_path(url.reveal(), info, "file")))
    if not re.match(r"postgresql(\+psycopg)?://", url.reveal()):
        raise WrongValueError(
            "this is no address of a history: write a file's name, or postgresql://user@host/database"
        )
    return url


def with_password(url: Secret, password: Secret) -> Secret:
    """An address with a password put in. Raises WrongValueError where it names no user, or has a password already."""
    parts = urlsplit(url.reveal())
    if not parts.username:
        raise WrongValueError("history.url names no user for it: write it like postgresql://user@host/database")
    if parts.password is not None:
        raise WrongValueError("history.url holds a password already: leave one of them out")
    user, _, host = parts.netloc.rpartition("@")
    return Secret(urlunsplit(parts._replace(netloc=f"{user}:{quote(password.reveal(), safe='')}@{host}")))
