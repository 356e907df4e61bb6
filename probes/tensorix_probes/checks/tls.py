"""`tls`: the name is known, somebody listens, and the certificate is trusted, for this name, in date and for a while.

No request is made. Of a target without TLS only the first two are looked at.
"""

from __future__ import annotations

from typing import Final

from tensorix_api.errors import ErrorKind, Phase
from tensorix_probes.check import Check, Context, Finding
from tensorix_probes.checks._answered import judge_time
from tensorix_probes.checks._promises import Judgement, Promise
from tensorix_probes.exchange.answer import Certificate, Failure
from tensorix_probes.result import State

__all__ = ["CHECK", "PROMISES"]

PROMISES = (
    Promise("name_resolves", "the host's name has an address", State.DOWN),
    Promise("connects", "one of its addresses takes a connection", State.DOWN),
    Promise("handshake_succeeds", "TLS is spoken, in a version that is still safe", State.DOWN),
    Promise("certificate_chain_is_trusted", "an authority that is trusted has signed it", State.DOWN),
    Promise("certificate_name_matches", "the certificate is for this host", State.DOWN),
    Promise("certificate_is_in_date", "its dates are not over, and not still to come", State.DOWN),
    Promise("certificate_lasts", "it lasts for certificate_days more"),
    Promise("connects_quickly", "look-up, connection and handshake take at most slow.connect_s together"),
)
_OF_KIND: Final = {
    ErrorKind.TLS_CHAIN: "certificate_chain_is_trusted",
    ErrorKind.TLS_NAME: "certificate_name_matches",
    ErrorKind.TLS_EXPIRED: "certificate_is_in_date",
}
_OF_PHASE: Final = {Phase.DNS: "name_resolves", Phase.CONNECT: "connects", Phase.TLS: "handshake_succeeds"}
_OURS: Final = (ErrorKind.CANCELLED, ErrorKind.INTERNAL)


def _run(context: Context) -> Finding:
    target = context.target
    answer = context.handshake()
    judgement = Judgement(PROMISES, target)
    failure = answer.failure
    if failure is not None and failure.kind in _OURS:
        judgement.inconclusive = f"{failure.kind}: {failure.text}"
        return judgement.finding(answer)
    _judge_steps(judgement, failure, secure=target.server.secure)
    if failure is not None:
        return judgement.finding(answer)
    figures: dict[str, float] = {}
    if answer.certificate is not None:
        figures = _lasting(judgement, answer.certificate, context.now_unix_ns() / 1e9, target.certificate_days)
    judge_time(judgement, "connects_quickly", answer.phases.total_ns, target.slow.connect_s)
    return judgement.finding(answer, figures=figures)


def _judge_steps(judgement: Judgement, failure: Failure | None, *, secure: bool) -> None:
    """Each step in its order: what came before the one that failed held, what comes after it is not known."""
    certificate = tuple(_OF_KIND.values())
    broken = None if failure is None else _OF_KIND.get(failure.kind) or _OF_PHASE.get(failure.phase, "connects")
    # The verifier stops at the first thing that is wrong with a certificate, and says nothing of the rest.
    unknown = ("handshake_succeeds", *certificate) if broken in certificate or not secure else ()
    reached = True
    for name in ("name_resolves", "connects", "handshake_succeeds", *certificate):
        if name == broken and failure is not None:
            judgement.judge(name, False, f"{failure.kind}: {failure.text}")
            reached = False
        else:
            judgement.judge(name, True if reached and name not in unknown else None)


def _lasting(judgement: Judgement, certificate: Certificate, now_unix_s: float, least_days: float) -> dict[str, float]:
    days = (certificate.not_after_unix_s - now_unix_s) / 86_400
    detail = f"{days:.1f} days are left, fewer than {least_days:g}; issued by {certificate.issuer or 'nobody'}"
    judgement.judge("certificate_lasts", days >= least_days, judgement.quote(detail))
    return {"certificate_days_left": days, "certificate_not_after_unix_s": certificate.not_after_unix_s}


CHECK = Check(name="tls", run=_run, decides=True)
