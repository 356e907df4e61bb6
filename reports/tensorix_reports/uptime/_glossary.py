"""What the uptime report's words mean."""

from __future__ import annotations

__all__ = ["GLOSSARY"]

GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "probe",
        "One round of a target's checks. Every one counts once, as it came out: nothing is retried until it is green.",
    ),
    ("available", "(up + degraded) / (up + degraded + down). Everything else stands on neither side."),
    ("degraded", "It answers, but slowly, or a promise is broken. It counts as available."),
    (
        "inconclusive",
        "Nothing can be said of the server: no budget was left for the probe, or it was refused for its rate.",
    ),
    ("payment", "The key is out of credit: a bill, not an outage."),
    ("maintenance", "Probes in a maintenance window. They are shown and count on neither side."),
    (
        "not watched",
        "Time in which no probe ran, from when the next would have been due. It is neither up nor down: nobody knows.",
    ),
    (
        "95 % interval",
        "How far the share could lie elsewhere by chance, taking probes as independent of each other (Wilson score).",
    ),
    (
        "error budget",
        "The conclusive probes that the objective lets fail; time before the first probe counts with those that would "
        "have fallen into it. In minutes, each probe stands for the time to the next.",
    ),
    ("met, missed", "The failed probes are within the error budget, or more than it."),
    (
        "so far",
        "The objective's window reaches back to before the first probe, or chance could have decided: it may change.",
    ),
    ("too little data", "Fewer than 20 conclusive probes, or less than an hour of them: nothing is said."),
    ("burning", "Met, but in the last hour three or more failed, and the burn rate is 6 or more."),
    ("failed", "An assertion, written check.assertion, that did not hold."),
    (
        "burn rate",
        "How fast the error budget goes: at 1 it lasts just as long as the objective's window, at 10 a tenth of it.",
    ),
    (
        "outage, incident",
        "An outage is a run of failed probes at one location, from the first failed to the first good one; outages of "
        "a target that overlap are one incident. It lasted at least from its first failed probe to its last, and less "
        "than from the good probe before to the good probe after.",
    ),
    (
        "TTFT",
        "Time to first token of the streamed check: from the start of the sending to the first chunk with something "
        "generated.",
    ),
    ("total", "From looking up the name to the last byte."),
    ("connect", "Opening a TCP connection, of all checks together; each probe opens its own."),
    ("p50, p95", "Half, and 95 %, of the good answers took no longer."),
)
