"""The limiters of each key, made from the settings at its first request."""

from __future__ import annotations

from tensorix_api.limiters import AllOf, FixedWindow, Limiter, Resource
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["KeyLimits"]


class KeyLimits:
    """Keeps what each key has used, by its alias."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._limiters: dict[str, AllOf] = {}

    def of(self, alias: str) -> AllOf:
        """A key's limits."""
        if alias not in self._limiters:
            self._limiters[alias] = self._made()
        return self._limiters[alias]

    def change(self, settings: SimulatorSettings) -> None:
        """From now on other limits. What keys have used so far stays used."""
        self._settings = settings
        self._limiters = {alias: self._made(old) for alias, old in self._limiters.items()}

    def forget(self) -> None:
        """Forget what keys have used."""
        self._limiters.clear()

    def _made(self, old: AllOf | None = None) -> AllOf:
        """A key's limits as they are set now; windows that `old` has are kept, with the new limit and length."""
        kept = {limiter.name: limiter for limiter in old.limiters} if old else {}
        limiters: list[Limiter] = []
        wanted: tuple[tuple[Resource, int | None], ...] = (
            ("requests", self._settings.rpm),
            ("tokens", self._settings.tpm),
        )
        for resource, limit in wanted:
            if limit is None:
                continue
            window = kept.get(resource)
            if not isinstance(window, FixedWindow):
                window = FixedWindow(resource, limit, self._settings.window_ns)
            window.limit, window.window_ns = limit, self._settings.window_ns
            limiters.append(window)
        return AllOf(limiters)
