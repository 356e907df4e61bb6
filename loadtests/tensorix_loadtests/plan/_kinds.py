"""The kinds of request that a mix can hold, and how a number of users is shared out among them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["CHAT_STREAMED", "CHAT_UNSTREAMED", "KINDS", "MODELS", "users_by_kind"]

CHAT_STREAMED = "chat-streamed"
CHAT_UNSTREAMED = "chat-unstreamed"
MODELS = "models"
KINDS = (CHAT_STREAMED, CHAT_UNSTREAMED, MODELS)
"""The kinds of user, or of request in open loop, that a mix can hold."""


def users_by_kind(mix: Mapping[str, float], users: int) -> dict[str, int]:
    """How many of `users` are of each kind: by share, every kind with a share at least one, all of them in sum.

    Rounded by the largest remainder. There are at least as many users as kinds (`LoadPlan` holds it).
    """
    shares = {kind: share for kind, share in mix.items() if share > 0}
    exact = {kind: users * share / sum(shares.values()) for kind, share in shares.items()}
    counts = {kind: int(number) for kind, number in exact.items()}
    left = users - sum(counts.values())
    for kind in sorted(shares, key=lambda kind: exact[kind] % 1, reverse=True)[:left]:
        counts[kind] += 1
    for kind in counts:
        if not counts[kind]:
            counts[max(counts, key=lambda other: counts[other])] -= 1
            counts[kind] = 1
    return counts
