"""What the parts of a plan check alike; each raises SettingsError, in one line that says what to do."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan._kinds import KINDS

__all__ = ["check_body", "check_headers", "check_mix", "check_text", "positive", "positive_int"]

# What this client says itself; a user's header of such a name would break the request's framing, show the key or leave
# the record with another identity than the server was told.
_OWN_HEADERS = {
    "authorization",
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "accept-encoding",
    "x-request-id",
}
_OWN_BODY = {"model", "messages", "stream"}


def positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
        raise SettingsError(f"the {name} is {value!r}: give a number above 0")


def positive_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingsError(f"the {name} is {value!r}: give a whole number from 1")


def check_mix(mix: Mapping[str, float], users: int) -> None:
    for kind, weight in mix.items():
        if kind not in KINDS:
            raise SettingsError(f"the mix names {kind!r}: known kinds are {', '.join(KINDS)}")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            raise SettingsError(f"the share of {kind} in the mix is {weight!r}: give a number from 0")
    wanted = sum(1 for weight in mix.values() if weight > 0)
    if not wanted:
        raise SettingsError("the mix is empty: give at least one kind a share above 0")
    if wanted > users:
        raise SettingsError(f"the mix has {wanted} kinds of user but there are only {users} users: give more users")


def check_text(what: str, text: str | None) -> None:
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        # Not repeated: what cannot be sent cannot be printed either.
        raise SettingsError(f"the {what} holds a character that UTF-8 cannot carry: write it as UTF-8 text") from None


def check_body(body: Mapping[str, Any]) -> None:
    """Raises SettingsError, in one line, where further fields of a chat request's body cannot be sent."""
    for name in body:
        if name in _OWN_BODY:
            raise SettingsError(f"the extra body holds {name!r}, which has an option of its own: use that")
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise SettingsError("the extra body holds a character that UTF-8 cannot carry: write it as UTF-8") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise SettingsError(f"the extra body cannot be written as JSON: {error}") from None


def check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if name.lower() in _OWN_HEADERS:
            hint = "give the key in TENSORIX_API_KEY" if name.lower() == "authorization" else "leave it out"
            raise SettingsError(f"the extra header {name!r} is set by the client itself: {hint}")
        token = name.isascii() and name and all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in name)
        if not token or any(not (0x20 <= ord(char) <= 0x7E or char == "\t") for char in value):
            # The value may be a secret and is not repeated.
            raise SettingsError(f"the extra header {name!r} holds a character that no header can carry")
