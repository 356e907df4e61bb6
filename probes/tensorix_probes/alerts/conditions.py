"""Which alerts there are, when they fire, and what they say: one table for Prometheus's rules and for `evaluate`.

Burn rates over two windows, as chapter 5 of Google's SRE Workbook has them: the long window says that it matters, the
short one that it still goes on. Besides, each needs a least number of failures: an hour of one round a minute has only
60, of which a strict objective forgives so little that one that failed would already be far too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tensorix_probes.result import State

__all__ = [
    "ABOUT",
    "BUDGET_WINDOW_S",
    "BURNS",
    "MOST_SHARE",
    "SHARES",
    "WINDOWS",
    "Burn",
    "longest_interval_s",
]

Severity = Literal["page", "ticket"]

WINDOWS = {"5m": 300.0, "30m": 1800.0, "1h": 3600.0, "6h": 6 * 3600.0, "3d": 3 * 86_400.0, "30d": 30 * 86_400.0}
"""Seconds by name. Scaled-down rules keep the names, so that pages which use them keep working."""

BUDGET_WINDOW_S = WINDOWS["30d"]

MOST_SHARE = 0.9
"""No more than this share of failures is ever asked for: 14.4 times the budget of an objective of 90 % would be more
than all of them, and a target that is down for good would alarm nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """Fires where in both windows the share of failed rounds is above `factor` times the budget (1 - objective), and
    so many failed.
    """

    alert: str
    factor: float
    long: str
    short: str
    """Names of `WINDOWS`."""
    least_long: int = 3
    least_short: int = 2
    whole: bool = False
    """Also against all rounds that the long window holds: where only two hours are known, three failures say nothing of
    three days."""


BURNS = (
    # Factor 0: whatever the objective. At 99.5 % and a probe a minute, three failures are 5 % of an hour, ten times the
    # budget: nothing to get up for, but nothing to keep quiet about either.
    Burn(alert="TensorixProbeFailing", factor=0.0, long="1h", short="5m"),
    Burn(alert="TensorixBudgetBurnsFast", factor=14.4, long="1h", short="5m"),
    Burn(alert="TensorixBudgetBurns", factor=6.0, long="6h", short="30m", whole=True),
    Burn(alert="TensorixBudgetBurnsSlowly", factor=1.0, long="3d", short="6h", whole=True),
)


def longest_interval_s(burn: Burn) -> float:
    """Seconds between two probes with which an outage shows in the short window without a break.

    With longer ones the alert would come and go, so it is left to the next pair of windows: a probe each five minutes
    pages by 6 h and 30 min.
    """
    return WINDOWS[burn.short] / burn.least_short


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Fires where more than `share` of all rounds in the window had a state, and at least so many."""

    alert: str
    state: State
    window: str
    share: float
    least: int


SHARES = (
    Share(alert="TensorixCreditUsedUp", state=State.PAYMENT, window="30m", share=0.0, least=2),
    Share(alert="TensorixProbeInconclusive", state=State.INCONCLUSIVE, window="1h", share=0.5, least=3),
    Share(alert="TensorixDegraded", state=State.DEGRADED, window="1h", share=0.5, least=3),
)


@dataclass(frozen=True, slots=True)
class About:
    """What an alert says. `{where}` is the target and its location, `{what}` what the alert has besides."""

    severity: Severity
    summary: str
    description: str
    """What to look at."""


_LOOK = "See the failed assertions and the reason on the status page, and `tensorix probe once --target` from here."

ABOUT = {
    "TensorixProbeFailing": About(
        "ticket", "{where} failed three times within an hour and twice within 5 minutes", _LOOK
    ),
    "TensorixBudgetBurnsFast": About(
        "page",
        "{where} is down: the error budget burns 14.4 times too fast",
        f"At this rate an hour takes 2 % of the budget of 30 days. {_LOOK}",
    ),
    "TensorixBudgetBurns": About(
        "page",
        "{where} fails often: the error budget burns 6 times too fast",
        f"At this rate six hours take 5 % of the budget of 30 days. {_LOOK}",
    ),
    "TensorixBudgetBurnsSlowly": About(
        "ticket",
        "{where} fails more often than its objective allows, for days",
        "See the incidents of the last days in `tensorix probe report`: what do they have in common?",
    ),
    "TensorixBudgetSpent": About(
        "ticket",
        "{where} has used up its error budget of 30 days",
        "See the incidents in `tensorix probe report`. It ends when enough of them are older than 30 days.",
    ),
    "TensorixDegraded": About(
        "ticket",
        "{where} was slow or broke a promise in more than half of the last hour's rounds",
        "See tensorix_probe_assertion_failed and probe_duration_seconds of the target.",
    ),
    "TensorixPromiseBroken": About(
        "ticket",
        "{where} has broken a promise for three hours: {what}",
        "It answers, but not as documented. A deviation that is known and harmless goes under `accept`.",
    ),
    "TensorixProbeInconclusive": About(
        "ticket",
        "More than half of the last hour's rounds of {where} could say nothing",
        "An outage would go unseen. Has the key too little room (429), or the probes too little budget?",
    ),
    "TensorixCreditUsedUp": About(
        "ticket",
        "{where} asks for payment (402)",
        "The account behind the key has no credit left; whoever else uses it is refused, too.",
    ),
    "TensorixKeyRefused": About(
        "page",
        "{where} refuses the key of the probes",
        "The key was revoked, rotated or mistyped. Other users of the same key are refused, too.",
    ),
    "TensorixAuthBroken": About(
        "ticket",
        "{where} does not tell good keys from bad ones as documented: {what}",
        "A bad key is taken, or refused otherwise than with the documented 401.",
    ),
    "TensorixCertificateExpires": About(
        "page",
        "The certificate of {where} runs out within 3 days",
        "Renew it, then see that the server presents the new one (`tensorix probe once --check tls`).",
    ),
    "TensorixCertificateExpiresSoon": About(
        "ticket",
        "The certificate of {where} runs out within 14 days",
        "Has its automatic renewal stopped? It should have come by now.",
    ),
    "TensorixProbeSilent": About(
        "page",
        "No probe of Tensorix is heard of at all",
        "An outage would go unseen. Does the prober run, and does Prometheus reach it?",
    ),
    "TensorixProbeLocationSilent": About(
        "ticket",
        "The probes of {where} were heard of within the last 12 hours, and are no more",
        "Does their prober run, and does Prometheus reach it? After a deliberate removal it ends by itself.",
    ),
    "TensorixProbeStale": About(
        "ticket",
        "{where} has not been probed for more than three intervals",
        "The prober is there but does not probe. See /healthz and its log; is its clock right?",
    ),
    "TensorixProbeSlotsMissed": About(
        "ticket",
        "More than a tenth of the last hour's slots of {where} were missed",
        "Rounds take longer than the interval (`overlap`), or the machine is too busy (`late`).",
    ),
    "TensorixProbeBudgetSpent": About(
        "ticket",
        "Checks of {where} are skipped time and again: the probes' own budget is used up",
        "See tensorix_probe_spent_total: raise the budget, probe less often, or leave out a check.",
    ),
    "TensorixProbeHistoryUnwritten": About(
        "ticket",
        "The history of the probes cannot be written",
        "Is the disk full, the file locked, the database away? Metrics and alerts are not affected.",
    ),
}
"""By name, each with a section of its name in docs/runbooks.md."""
