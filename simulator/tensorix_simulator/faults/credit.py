"""What each key has paid for, and how much of it is used up."""

from __future__ import annotations

__all__ = ["Credit"]


class Credit:
    """Counts the tokens that keys have used, prompts included, by their aliases."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def spend(self, alias: str, tokens: int) -> None:
        """So many tokens more were used."""
        self._used[alias] = self._used.get(alias, 0) + tokens

    def spent(self, alias: str | None, paid: int | None) -> bool:
        """Whether nothing is left of what was paid for; None: it is endless."""
        return paid is not None and self._used.get(alias or "", 0) >= paid

    def forget(self) -> None:
        """As if nothing had been used yet."""
        self._used.clear()
