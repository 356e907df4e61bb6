"""What `tensorix limits` should say of a limiter whose configuration is known, and whether its JSON says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Expected", "Judged", "gateway_facts", "judged"]

_OFF = 0.05
"""A parameter may be off by so much of the truth."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The limiter as it was configured. A bucket is judged by its burst and the seconds between two drips."""

    kind: str
    requests: int
    window_s: float
    burst: int | None = None
    counts_refused: bool | None = None
    """None where it cannot make a difference."""
    refuses_with: int = 429
    facts: Callable[[dict[str, Any]], list[str]] | None = None
    """What else has to be in the JSON: gives what is not."""

    def __str__(self) -> str:
        if self.burst is not None:
            return f"{self.kind}, {self.burst} at once, one in {self.window_s / self.requests:g} s"
        refused = ", refused count" if self.counts_refused else ""
        return f"{self.kind}, {self.requests} in {self.window_s:g} s{refused}"


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found, in a line, and what is wrong with it."""

    found: str
    probability: float | None
    requests: int
    seconds: float
    wrong: list[str]


def judged(report: dict[str, Any], expected: Expected, announced: int) -> Judged:
    """Hold the JSON of a run against the truth; `announced` is what was said to be sent at most."""
    spent = report["run"]["spent"]
    wrong = []
    if spent["requests"] > announced:
        wrong.append(f"{spent['requests']} requests, announced {announced}")
    if not report["keys"]:
        return Judged("nothing", None, spent["requests"], spent["seconds"], [*wrong, "no request tells of a limit"])
    main = report["keys"][0]
    fit = main["fit"]
    if fit["verdict"] != "named":
        wrong.append(fit["verdict"])
    if not fit["ranked"]:
        return Judged(fit["verdict"], None, spent["requests"], spent["seconds"], wrong)
    best = fit["ranked"][0]
    limit, window_s = best["limit"]["value"], best["window_s"]["value"]
    found = f"{best['kind']}, {limit:.4g} in {window_s:.4g} s"
    if best["kind"] != expected.kind:
        wrong.append("another kind")
    elif expected.burst is not None:
        burst = best["burst"]["value"]
        found = f"{best['kind']}, {burst:.4g} at once, one in {window_s / limit:.4g} s"
        wrong += _off("burst", burst, expected.burst)
        wrong += _off("drip", window_s / limit, expected.window_s / expected.requests)
    else:
        wrong += _off("limit", limit, expected.requests) + _off("window", window_s, expected.window_s)
    if expected.counts_refused is not None and best["counts_refused"] is not expected.counts_refused:
        wrong.append("refused requests do not count" if expected.counts_refused else "refused requests count")
    if (refused := main.get("refused_with", 429)) != expected.refuses_with:
        wrong.append(f"refuses with {refused}, not {expected.refuses_with}")
    for what in ("foreign_per_s", "second_limit", "changed_at_s"):
        if fit[what] is not None:
            wrong.append(f"{what} {fit[what]}")
    if expected.facts is not None:
        wrong += expected.facts(report)
    found += ", refused count" if best["counts_refused"] else ""
    return Judged(found, best["probability"], spent["requests"], spent["seconds"], wrong)


def _off(name: str, found: float, true: float) -> list[str]:
    return [] if abs(found - true) <= _OFF * true else [f"{name} {found:.4g}, not {true:g}"]


def gateway_facts(report: dict[str, Any]) -> list[str]:
    """What a LiteLLM gateway is known to do besides, as far as the JSON does not say it."""
    main, missing = report["keys"][0], []
    beside = {one["question"]: one["answer"] for one in report["beside"]}
    for question, answer in (
        ("does a request that is refused for its parameters (400) count?", "yes"),
        ("does the list of models count?", "no"),
        ("how are tokens charged?", "prompt and max_tokens, settled to what was used"),
    ):
        if beside.get(question) != answer:
            missing.append(f"{question} {beside.get(question, 'not asked')}, not: {answer}")
    told = {(one["kind"], one["status"]): one["present"] for one in main["headers"]}
    if not told.get(("chat, not streamed", 200)):
        missing.append("the headers of plain replies were not seen")
    silent = {name: n for name, n in told.items() if name[1] in (400, 401, 429) or name == ("chat, streamed", 200)}
    if any(silent.values()) or not any(status == 429 for _, status in silent):
        missing.append(f"headers are said to be where there are none, or were not asked for: {silent}")
    retry = main["retry_after"]
    if not retry["too_late"] or retry["too_early"]:
        missing.append("Retry-After is not said to be overstated")
    return missing
