"""Whether what responses say of the key's limits is there, is well-formed, and can be true.

It asks nothing itself: it reads what the other checks of this round got, and of those of the last minutes before it,
of all targets that use the key. What other users of the key do never makes it fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from tensorix_api.secret import Redactor
from tensorix_probes.check import Check, Context, Finding
from tensorix_probes.checks._promises import Promise
from tensorix_probes.limits.keys import Limit, known_limit
from tensorix_probes.limits.observation import Observation
from tensorix_probes.limits.remaining_model import Strike, said_of, walk
from tensorix_probes.limits.retry_after import retry_after_is_honest
from tensorix_probes.limits.traffic import figures_of
from tensorix_probes.result import Assertion, State
from tensorix_probes.settings import Target

__all__ = ["CHECK", "PROMISES"]

_KINDS = {
    "chat": "a chat completion",
    "stream": "a streamed completion",
    "models": "the list of models",
    "bad_request": "a 400",
    "unauthorised": "a 401",
    "throttled": "a 429",
}

PROMISES = (
    *(
        Promise(f"headers_present_on_{kind}", f"headers say what remains on {words}, where that is expected")
        for kind, words in _KINDS.items()
    ),
    Promise(
        "headers_are_numbers", "each of these headers is a number or a time, and comes once or says the same twice"
    ),
    Promise("remaining_is_not_negative", "not less than nothing remains"),
    Promise("remaining_within_limit", "not more remains than the limit"),
    Promise("remaining_falls_with_use", "what remains moves when requests are made"),
    Promise(
        "remaining_agrees_with_ledger", "what remains can be the limit less our own use, whoever else uses the key"
    ),
    Promise("limit_is_as_expected", "the limit that a header states is the one that the configuration tells"),
    Promise("retry_after_is_honest", "after a 429, nothing is free long before its Retry-After is over"),
    Promise("limited_only_without_budget", "a 429 does not say that enough remains", State.INCONCLUSIVE),
)

_WINDOWS = 10
_MOST = 120
_Resource: TypeAlias = Literal["requests", "tokens"]
_RESOURCES: tuple[_Resource, _Resource] = ("requests", "tokens")
_SHORTER = (2, 5, 10)
_STRIKES = 3
"""Against a limit that nobody named, so many are needed."""


def _run(context: Context) -> Finding:
    target, now = context.target, context.now_unix_ns()
    window_ns = round(target.headers.window_s * 1e9)
    known = [one for one in context.observations if abs(now - one.head_unix_ns) < _WINDOWS * window_ns][-_MOST:]
    since = context.memory.get("until_unix_ns", 0)
    # A clock that was set back would leave nothing new for as long.
    fresh = [one for one in known if one.end_unix_ns > (since if since <= now else now - window_ns)]
    context.memory["until_unix_ns"] = now
    if not fresh:
        return Finding(inconclusive="no answer came in this round whose headers could be looked at")
    own = [one for one in fresh if one.kind != "unauthorised"]
    limits: dict[_Resource, tuple[Limit, int | None]] = {what: known_limit(target, known, what) for what in _RESOURCES}
    assertions = [
        *_presence(target, fresh, known),
        _numbers(target, fresh),
        _not_negative(own),
        _within(own, limits),
        *_agreement(context, known, own, limits["requests"][0], window_ns),
        _as_expected(target, limits),
        retry_after_is_honest(known, window_ns),
        _limited_without_budget(own),
    ]
    figures = dict(figures_of([one for one in known if now - one.head_unix_ns < window_ns]))
    for what, (limit, _) in limits.items():
        if limit.is_known:
            figures[f"limit_{what}"] = limit.amount
    return Finding(assertions=tuple(assertions), figures=figures)


def _broken(name: str, details: Sequence[str], seen: bool = True) -> Assertion:
    """An assertion that fails by what is said of it, and could not be judged where nothing was seen."""
    detail = "; ".join(dict.fromkeys(details))[:300] or None
    return Assertion(name, False if details else True if seen else None, detail, State.DEGRADED)


def _has(one: Observation, what: str) -> bool:
    """Whether a response had a header on what remains, be it nonsense."""
    return getattr(one.limits, f"remaining_{what}") is not None or f"remaining-{what} " in (one.limits.anomaly or "")


def _presence(target: Target, fresh: Sequence[Observation], known: Sequence[Observation]) -> Iterator[Assertion]:
    # A server that limits only one of them has a header for one only; some spellings have no word for tokens.
    usual = [what for what in _RESOURCES if any(_has(one, what) for one in known)]
    told = target.headers.requests and target.headers.tokens
    wanted = usual if usual and not told else list(_RESOURCES)
    for kind in target.headers.expected_on:
        of_kind = [one for one in fresh if one.kind == kind]
        missing = [what for what in wanted if any(not _has(one, what) for one in of_kind)]
        details = [f"no header says what remains of {' and '.join(missing)} on {_KINDS.get(kind, kind)}"]
        yield _broken(f"headers_present_on_{kind}", details if missing else [], bool(of_kind))


def _numbers(target: Target, fresh: Sequence[Observation]) -> Assertion:
    redact = Redactor(target.api_key, *target.extra_headers.values())
    odd = [text for one in fresh for text in (one.limits.anomaly or "").split("; ") if text]
    details = [redact(text) for text in odd if not text.endswith("is negative")]
    return _broken("headers_are_numbers", details, any(one.limits.spelling or one.limits.anomaly for one in fresh))


def _said(own: Sequence[Observation], what: str) -> list[int]:
    values = (getattr(one.limits, f"remaining_{what}") for one in own)
    return [value for value in values if value is not None]


def _not_negative(own: Sequence[Observation]) -> Assertion:
    said = [(what, value) for what in _RESOURCES for value in _said(own, what)]
    details = [f"{value} {what} remain" for what, value in said if value < 0]
    return _broken("remaining_is_not_negative", details, bool(said))


def _within(own: Sequence[Observation], limits: Mapping[_Resource, tuple[Limit, int | None]]) -> Assertion:
    details, seen = [], False
    for what, (limit, stated) in limits.items():
        most = max(limit.amount, stated or 0)
        # Tokens that a gateway set aside in one window and gives back in the next one come on top.
        slack = most // 100 if what == "tokens" else 0
        said = _said(own, what) if limit.is_known else []
        seen = seen or bool(said)
        details += [f"{value} {what} remain of {most} ({limit.source})" for value in said if value > most + slack]
    return _broken("remaining_within_limit", details, seen)


def _agreement(
    context: Context, known: Sequence[Observation], own: Sequence[Observation], limit: Limit, window_ns: int
) -> Iterator[Assertion]:
    """Whether what remains falls with what we use, and is never more than our own use leaves."""
    names = ("remaining_falls_with_use", "remaining_agrees_with_ledger")
    judged = any(one.sure and one.limits.remaining_requests is not None for one in known)
    if not context.target.headers.judge_remaining or not judged:
        yield from (Assertion(name, None, None, State.DEGRADED) for name in names)
        return
    result = walk(said_of(known, "requests"), limit.amount, window_ns)
    strikes, doubt = result.strikes, result.doubt
    # On the very first look a lie is likelier than a window that began in this instant; later on it has to come again.
    looked, doubted = context.memory.get("looked", False), context.memory.get("doubted", False)
    in_doubt = (
        doubt is not None and known[0] in own and (limit.is_known or (limit.source == "assumed" and doubt.full_twice))
    )
    context.memory.update(looked=True, doubted=in_doubt)
    if not strikes and doubt is not None and in_doubt and (doubted or not looked):
        yield Assertion(names[0], True, None, State.DEGRADED)
        yield _broken(names[1], [f"{doubt.detail}: as if a response behind (the limit is {limit.source})"])
        return
    first_ns = min((one.head_unix_ns - one.clocks_apart_ns for one in own), default=0)
    recent = [strike for strike in strikes if strike.at_ns >= first_ns - 2 * window_ns]
    if not recent or not _stands(limit, strikes):
        yield from (Assertion(name, True, None, State.DEGRADED) for name in names)
        return
    if not recent[-1].frozen:
        shorter = _shorter_window_s(known, limit, window_ns)
        if shorter is not None:
            detail = f"{recent[-1].detail}: a window of {shorter:g} s would explain it (`headers.window_s`)"
            yield Assertion(names[0], True, None, State.DEGRADED)
            yield Assertion(names[1], None, detail, State.DEGRADED)
            return
    for name, frozen in zip(names, (True, False), strict=True):
        yield _broken(name, [_words(strike, limit) for strike in recent if strike.frozen is frozen][-1:])


def _stands(limit: Limit, strikes: Sequence[Strike]) -> bool:
    """Whether they are enough against the limit: one that nobody named may be another."""
    if limit.is_known or any(strike.stuck for strike in strikes):
        return True
    if limit.source == "seen":
        return False
    if any(strike.at_limit and (strike.frozen or strike.full_twice) for strike in strikes):
        return True
    return len(strikes) >= _STRIKES or sum(strike.at_limit for strike in strikes) > 1


def _shorter_window_s(known: Sequence[Observation], limit: Limit, window_ns: int) -> float | None:
    said = said_of(known, "requests")
    fits = (window_ns // part for part in _SHORTER if not walk(said, limit.amount, window_ns // part).strikes)
    return next((window / 1e9 for window in fits), None)


def _words(strike: Strike, limit: Limit) -> str:
    kind = "it does not move" if strike.frozen else "as if a response behind" if strike.at_limit else "too much"
    return f"{strike.detail}: {kind} (the limit is {limit.source})"


def _as_expected(target: Target, limits: Mapping[_Resource, tuple[Limit, int | None]]) -> Assertion:
    told = [(what, limit.amount, stated) for what, (limit, stated) in limits.items() if limit.source == "told"]
    details = [f"{stated} {what}, not {amount}" for what, amount, stated in told if stated not in (None, amount)]
    return _broken("limit_is_as_expected", details, any(stated is not None for _, _, stated in told))


def _limited_without_budget(own: Sequence[Observation]) -> Assertion:
    """A refusal that says itself that there was enough: another limit, another user, or a server in trouble."""
    refused = [one for one in own if one.status == 429]
    details = [
        f"refused with 429, though {one.limits.remaining_requests} requests remain"
        for one in refused
        if (one.limits.remaining_requests or 0) > 0
        and (one.limits.remaining_tokens is None or one.limits.remaining_tokens > one.most_tokens)
    ]
    one = _broken("limited_only_without_budget", details, bool(refused))
    return Assertion(one.name, one.held, one.detail, State.INCONCLUSIVE)


CHECK = Check(name="ratelimit", run=_run, reads_only=True)
