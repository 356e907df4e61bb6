"""What is known of a key's limits before the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tensorix_api.settings import Settings

__all__ = ["Limits"]

# A key's limits in a minute, by the overview of Tensorix's API.
_DOCUMENTED = {"requests": 60, "tokens": 2_000_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the key is allowed, as far as it is known before the run; None where it is not.

    `told` names the fields that the user gave. The rest is what Tensorix documents, for its own address, and unknown
    for any other server, but for the window: such limits are counted by the minute until something says otherwise.
    """

    requests: int | None = None
    tokens: int | None = None
    window_s: float = 60.0
    told: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, base_url: str, *, requests: int | None = None, tokens: int | None = None, window_s: float | None = None
    ) -> Limits:
        """The limits of a server, with what the user told (None where nothing). Raises SettingsError for no address."""
        given = {"requests": requests, "tokens": tokens, "window_s": window_s}
        known = {name: value for name, value in given.items() if value is not None}
        documented = Settings(base_url=base_url).host == Settings().host
        defaults: dict[str, Any] = dict(_DOCUMENTED) if documented else {}
        return cls(**(defaults | known), told=tuple(known))
