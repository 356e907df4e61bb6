"""Which limit a 429 speaks of: that on requests, or that on tokens."""

from __future__ import annotations

from typing import Literal

from tensorix_records import RequestRecord

__all__ = ["Spoken", "speaks_of_tokens", "spoken_of"]

Spoken = Literal["requests", "tokens"]


def spoken_of(remaining_requests: float | None, remaining_tokens: float | None, said: str) -> Spoken | None:
    """By what its headers say remains: nothing of the one, something of the other; else by its words, where they name
    but one. None where it does not tell.
    """
    if remaining_requests is not None and remaining_requests <= 0 and remaining_tokens != 0:
        return "requests"
    if remaining_tokens is not None and remaining_tokens <= 0 and remaining_requests != 0:
        return "tokens"
    # "Too many requests" is what every 429 says, whatever was too many.
    said = said.lower().replace("too many requests", "")
    tokens, requests = ("token" in said or "tpm" in said), ("request" in said or "rpm" in said)
    if tokens == requests:
        return None
    return "tokens" if tokens else "requests"


def speaks_of_tokens(record: RequestRecord) -> bool:
    """Whether a refused request says that it was for tokens."""
    said = " ".join(filter(None, (record.error_type, record.error_code, record.error_message)))
    return spoken_of(record.remaining_requests, record.remaining_tokens, said) == "tokens"
