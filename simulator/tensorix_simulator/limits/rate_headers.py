"""What the headers of a response say of a key's limits, by the mode that is set, and by the lie."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from tensorix_api.limiters import Resource, Standing
from tensorix_simulator.http.wire import Headers
from tensorix_simulator.limits.ledger import Ledger, OverLimit
from tensorix_simulator.settings import SimulatorSettings

__all__ = ["AnswerKind", "RateHeaders", "documented_headers", "duration", "resets_at"]


class AnswerKind(StrEnum):
    """What a response is, as far as its headers depend on it."""

    COMPLETION = "completion"
    STREAM = "stream"
    MODELS = "models"
    REFUSED = "refused"
    """A 429."""
    ERROR = "error"


class RateHeaders:
    """The headers of every response of a key that is known; keeps what a lie needs to know of each key."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Resource], int] = {}

    def forget(self) -> None:
        """Begin to lie anew."""
        self._kept.clear()

    def of(self, settings: SimulatorSettings, kind: AnswerKind, ledger: Ledger) -> Headers:
        """The headers of a response whose ledger was looked at just now."""
        if settings.headers == "none":
            return []
        if settings.headers == "litellm" and kind is AnswerKind.REFUSED:
            return _litellm_over(settings, ledger.over) if ledger.over is not None else []
        if settings.headers == "documented" and settings.header_lie is None:
            return documented_headers(ledger.remaining)
        now_ns = time.monotonic_ns()
        standing = ledger.limiter.standing(now_ns)
        if settings.headers == "litellm" and kind is not AnswerKind.COMPLETION:
            return []
        shown: dict[Resource, int] = {
            resource: self._shown(settings, ledger.alias, resource, one) for resource, one in standing.items()
        }
        match settings.headers:
            case "litellm":
                # The gateway notes what is left when it lets a request pass, and settles after the answer.
                return _litellm({**shown, **ledger.granted} if settings.header_lie is None else shown, standing)
            case "openai":
                return _openai(shown, standing, now_ns)
            case _:
                return documented_headers(shown)

    def _shown(self, settings: SimulatorSettings, alias: str, resource: Resource, standing: Standing) -> int:
        """The number that is shown for what is left."""
        match settings.header_lie:
            case "late":
                shown = self._kept.get((alias, resource), standing.limit)
                self._kept[alias, resource] = standing.remaining
                return shown
            case "stuck":
                return self._kept.setdefault((alias, resource), standing.remaining)
            case "negative":
                return -max(1, standing.limit - standing.left)
            case _:
                return standing.remaining


def documented_headers(shown: Mapping[Resource, int]) -> Headers:
    """Both, on every response."""
    return [(f"x-ratelimit-api_key-remaining-{resource}", str(left)) for resource, left in shown.items()]


def _openai(shown: Mapping[Resource, int], standing: Mapping[Resource, Standing], now_ns: int) -> Headers:
    """Limit, what is left and when all of it is left again, on every response; grouped as OpenAI does."""
    headers: Headers = [(f"x-ratelimit-limit-{resource}", str(one.limit)) for resource, one in standing.items()]
    headers += [(f"x-ratelimit-remaining-{resource}", str(left)) for resource, left in shown.items()]
    headers += [
        (f"x-ratelimit-reset-{resource}", duration(one.whole_at_ns - now_ns))
        for resource, one in standing.items()
        if one.whole_at_ns is not None
    ]
    return headers


def duration(ns: int) -> str:
    """A time as OpenAI writes them, rounded up to ms: `17ms`, `8.64s`, `6m0s`, `1h0m0s`."""
    ms = max(0, -(-ns // 1_000_000))
    if 0 < ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _litellm(shown: Mapping[Resource, int], standing: Mapping[Resource, Standing]) -> Headers:
    """What remains and the limit, on completions that are not streamed."""
    headers: Headers = []
    for resource, left in shown.items():
        headers.append((f"x-ratelimit-api_key-remaining-{resource}", str(left)))
        headers.append((f"x-ratelimit-api_key-limit-{resource}", str(standing[resource].limit)))
    return headers


def _litellm_over(settings: SimulatorSettings, over: OverLimit) -> Headers:
    """With a 429, of the limit that was reached; when to come back only where `retry_after` does not say it."""
    headers: Headers = []
    if settings.retry_after == "none":
        headers.append(("retry-after", str(math.ceil(_window_s(settings, over)))))
    return [*headers, ("rate_limit_type", over.resource or "requests"), ("reset_at", resets_at(settings, over))]


def resets_at(settings: SimulatorSettings, over: OverLimit) -> str:
    """When LiteLLM says that a limit is whole again: a window from now, wherever in the window it is."""
    at = datetime.fromtimestamp(over.unix_s, UTC) + timedelta(seconds=_window_s(settings, over))
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


def _window_s(settings: SimulatorSettings, over: OverLimit) -> float:
    return over.window_ns / 1e9 if over.window_ns else settings.window_s
