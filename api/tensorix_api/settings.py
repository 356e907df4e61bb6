"""Where the API is, which key opens it and which model is asked: from the environment or given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from tensorix_api.errors import SettingsError
from tensorix_api.secret import Secret

__all__ = ["DEFAULT_BASE_URL", "Settings", "fits_a_header"]

DEFAULT_BASE_URL = "https://api.tensorix.ai/v1"


def _parse_base_url(text: str) -> SplitResult:
    """The address taken apart; raises SettingsError with a line on what to write instead."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise SettingsError("the base URL cannot be read: write it like https://api.tensorix.ai/v1") from None
    if "@" in parts.netloc:
        # Not repeated in the message: it holds a password.
        raise SettingsError("the base URL holds a user or password: give the key in TENSORIX_API_KEY instead")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"the base URL {text!r} is no http(s) address: write it like https://api.tensorix.ai/v1")
    if not text.isascii():
        raise SettingsError("the base URL holds a letter beyond ASCII: write the host as xn--… and the path with %XX")
    if parts.port == 0:
        raise SettingsError("the base URL names port 0, which nobody listens on: give the server's port")
    if "?" in text or "#" in text:
        raise SettingsError("the base URL has a query or fragment: give only the address up to /v1")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise SettingsError("the base URL holds a space or control character: write it without")
    return parts


def fits_a_header(key: Secret) -> bool:
    """Whether it can stand in the `Authorization` header."""
    return all(0x21 <= ord(character) <= 0x7E for character in key.reveal())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The address, key and model to use.

    `base_url` has no trailing slash. `model` None means: the first that the server lists.
    """

    base_url: str = DEFAULT_BASE_URL
    api_key: Secret | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        scheme = _parse_base_url(self.base_url).scheme
        # The scheme in small letters, as it is compared: HTTPS:// is not to be taken for no TLS.
        object.__setattr__(self, "base_url", scheme + self.base_url[len(scheme) :].rstrip("/"))

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, *, base_url: str | None = None, model: str | None = None
    ) -> Settings:
        """Read `TENSORIX_BASE_URL`, `TENSORIX_API_KEY` and `TENSORIX_MODEL`; an argument that is given goes first.

        Raises SettingsError where the address or the key cannot be used.
        """
        if environ is None:
            environ = os.environ
        key = Secret(environ.get("TENSORIX_API_KEY", "").strip())
        base_url = base_url or environ.get("TENSORIX_BASE_URL") or DEFAULT_BASE_URL
        model = model or environ.get("TENSORIX_MODEL") or None
        # Whatever raises from here on has no locals that hold the key in the clear.
        del environ
        if not fits_a_header(key):
            raise SettingsError("TENSORIX_API_KEY holds a character that no header can carry: set it again")
        return cls(base_url=base_url, api_key=key or None, model=model)

    @property
    def host(self) -> str:
        """The host, without brackets for an IPv6 address."""
        return _parse_base_url(self.base_url).hostname or ""

    @property
    def port(self) -> int:
        """The port, by the scheme where none is written."""
        return _parse_base_url(self.base_url).port or (443 if self.secure else 80)

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self.base_url.startswith("https:")

    @property
    def path(self) -> str:
        """The path before `/chat/completions`, such as `/v1`."""
        return urlsplit(self.base_url).path

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine, so that a test costs nobody anything."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
