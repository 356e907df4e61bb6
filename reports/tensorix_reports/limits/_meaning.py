"""What a limiter means for whoever has to live with it: rate, burst, which limit binds, pacing, keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tensorix_api.limiters import Charging
from tensorix_reports.limiter import Fitted, Interval

__all__ = ["MEANS", "SHARE", "Binding", "Meaning", "meaning_of"]

SHARE = 0.95
"""Of a limit that is worth keeping to: what `tensorix load --limit-share` is told."""
MEANS = (100, 1_000, 10_000, 100_000)
"""Mean tokens of a request for which it is said what binds."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Which limit is met first by requests of so many tokens in the mean."""

    mean_tokens: float
    charging: str
    charged: float
    """Tokens that such a request counts."""
    by: str
    """`requests` or `tokens`."""
    rate_per_s: float
    """Requests a second that pass for ever."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """Rates are requests a second. Where a parameter is not known exactly, all is said by its less generous bound."""

    rate_per_s: float
    burst: int
    """So many at once pass, once the budget is whole."""
    whole_after_s: float
    """So long without a request makes it whole, wherever its windows lie."""
    pace_s: float
    """One request in so many seconds is never refused, with a margin of 5 %."""
    load_options: str
    """The same for `tensorix load`."""
    token_limit: int | None
    """In the same window."""
    crossover_tokens: float | None
    """Requests that count more than this in the mean meet the limit on tokens first."""
    binding: list[Binding]
    want_per_s: float | None
    keys: int | None
    """So many keys the wished rate needs, each kept to 95 % of its limits."""


def meaning_of(
    fitted: Fitted,
    *,
    second: tuple[int, float] | None = None,
    token_limit: int | None = None,
    mean_tokens: float | None = None,
    answer_share: float = 0.5,
    want_per_s: float | None = None,
) -> Meaning:
    """What follows from a limiter; `mean_tokens` of prompt and answer, of which `answer_share` is the answer."""
    limit, window_s = _least(fitted.limit), _most(fitted.window_s)
    rate = limit / window_s
    burst = _least(fitted.burst) if fitted.burst is not None else limit
    if second is not None:
        rate, burst = min(rate, second[0] / second[1]), min(burst, second[0])
    # A counter of two windows forgets in two.
    whole = {"sliding_counter": 2 * window_s, "token_bucket": burst / rate if rate else math.inf}
    means = [*MEANS, *([] if mean_tokens is None else [mean_tokens])]
    binding = []
    if token_limit is not None:
        for mean in sorted(set(means)):
            for charging in Charging:
                charged = mean * (1 - answer_share) if charging is Charging.PROMPT else float(mean)
                by_tokens = token_limit / window_s / charged if charged else math.inf
                by = "tokens" if by_tokens < rate else "requests"
                binding.append(Binding(mean, charging.value, charged, by, min(rate, by_tokens)))
    bound = rate
    if token_limit is not None and mean_tokens:
        bound = min(rate, token_limit / window_s / mean_tokens)
    return Meaning(
        rate_per_s=rate,
        burst=math.floor(burst),
        whole_after_s=whole.get(fitted.kind, window_s),
        pace_s=1 / (SHARE * rate) if rate else math.inf,
        load_options=_load_options(limit, window_s, token_limit),
        token_limit=token_limit,
        crossover_tokens=None if token_limit is None else token_limit / window_s / rate,
        binding=binding,
        want_per_s=want_per_s,
        keys=None if want_per_s is None or not bound else math.ceil(want_per_s / (SHARE * bound) - 1e-9),
    )


def _least(one: Interval) -> float:
    return one.low if 0 < one.low < one.value else one.value


def _most(one: Interval) -> float:
    return one.high if one.value < one.high < math.inf else one.value


def _load_options(limit: float, window_s: float, token_limit: int | None) -> str:
    whole = max(1, math.floor(limit + 1e-6))
    # Of a limit that is no whole number the whole part comes in as much less time.
    text = f"--limit-share {SHARE:g} --rpm {whole} --limit-window {window_s * max(1.0, whole / limit):.4g}s"
    return text + (f" --tpm {token_limit}" if token_limit is not None else "")
