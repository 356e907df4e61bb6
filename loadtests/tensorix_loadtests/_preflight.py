"""The look before the leap: is the server there, does it take the key, does it speak the API, which model is first?"""

from __future__ import annotations

from collections.abc import Sequence

from tensorix_api.errors import ErrorKind, PreflightError
from tensorix_loadtests._call import Call
from tensorix_loadtests._client import LoadClient
from tensorix_loadtests._origin import Origin
from tensorix_loadtests._pacing import KeyPace
from tensorix_loadtests._recording import Result
from tensorix_loadtests._session import Session
from tensorix_loadtests.plan import LoadPlan
from tensorix_records import RequestRecord

__all__ = ["check_limits_known", "choose_model"]


def choose_model(
    session: Session, ca_bundle: str | None = None, models: Sequence[str] = ()
) -> tuple[str, RequestRecord, str | None]:
    """The model to ask (the one set, else the first listed), the record of the one request to `/models`, a warning.

    Where several are asked, `models`, the first of them.
    Raises PreflightError, in one line, where a load test against this server could not work.
    """
    client = LoadClient(session)
    try:
        result = client.send(Call.list_models(), Origin(scenario="preflight"))
    finally:
        client.close()
    record = result.record
    wanted = models[0] if models else session.settings.model
    if record.outcome == "success":
        if wanted:
            unlisted = next(filter(None, (_unlisted(one, result.models) for one in models or (wanted,))), None)
            return wanted, record, unlisted and session.redact(unlisted)
        if not result.models:
            raise PreflightError(f"{session.settings.base_url} lists no models: name one with --model")
        first = result.models[0]
        if session.redact(first, len(first)) != first:
            # It would stand in every record, and in the manifest.
            raise PreflightError(f"the first model of {session.settings.base_url} repeats the key: give --model")
        return first, record, None
    if wanted and _lists_no_models(record):
        return wanted, record, f"whether the server has the model {wanted!r} is not known: it gave no list of models"
    raise PreflightError(_why(session, result, ca_bundle))


def check_limits_known(plan: LoadPlan, record: RequestRecord) -> None:
    """Raises PreflightError where a share of the limits is to be kept to and nobody told a limit."""
    if plan.spending.limit_share is None:
        return
    pace = KeyPace(plan.limits, plan.spending.limit_share)
    pace.seen(0, record)
    if not pace.knows_a_limit:
        raise PreflightError(f"{plan.base_url} tells no limit of this key to keep within: give --rpm, --tpm or both")


def _unlisted(wanted: str, listed: tuple[str, ...]) -> str | None:
    """What to say of a model that is not on the list: no error, since gateways take names that they do not list."""
    if wanted in listed:
        return None
    some = ", ".join(listed[:5]) + (", …" if len(listed) > 5 else "")
    return f"the server does not list the model {wanted!r}; it lists {some or 'none'}"


def _lists_no_models(record: RequestRecord) -> bool:
    """Whether the server may well serve chat all the same: it answered as this API does, but has no list for us now."""
    if record.error_kind == ErrorKind.RATE_LIMITED:
        return True
    # An API's own 404 comes as an error object; a web server's comes as a page.
    missing = record.status in (404, 405, 501) and bool(record.error_message)
    return missing and not (record.error_message or "").lstrip().startswith("<")


def _cure(kind: str | None, ca_bundle: str | None) -> str:
    """What to do about a certificate: another authority helps where the chain is wrong, not against date or name."""
    if kind != ErrorKind.TLS_CHAIN:
        return ""
    if ca_bundle:
        return f"; no authority in {ca_bundle} has signed it"
    return "; for a certificate of your own give --ca-bundle"


def _why(session: Session, result: Result, ca_bundle: str | None) -> str:
    record, url = result.record, session.settings.base_url
    said = record.error_message or ""
    kind = record.error_kind
    if kind == ErrorKind.AUTHENTICATION:
        if session.settings.api_key is None:
            return f"{url} wants a key ({record.status}): set TENSORIX_API_KEY"
        return f"{url} refused the key ({record.status}): check TENSORIX_API_KEY. The server said: {said}"
    if kind == ErrorKind.PAYMENT:
        return f"{url} says that the key is out of credit (402): {said}"
    if kind == ErrorKind.RATE_LIMITED:
        return f"{url} is limiting this key already (429): wait a minute, or name a model with --model"
    if kind == ErrorKind.SERVER_ERROR:
        return f"{url} answered {record.status} to the list of models: try again later. The server said: {said}"
    if kind in (ErrorKind.BAD_REQUEST, ErrorKind.MALFORMED):
        status = f" ({record.status})" if record.status else ""
        return f"{url} is not an OpenAI-compatible server{status}: its /models gave no model list; check the base URL"
    if kind == ErrorKind.UNEXPECTED_STATUS:
        return f"{url}: {said}"
    if kind == ErrorKind.TIMEOUT:
        return f"{url} did not answer in time ({record.error_phase}): {said}"
    if kind == ErrorKind.TLS_FAILED:
        return f"{url} cannot be reached over TLS ({kind}): {said}; if it speaks plain HTTP, write http://"
    if kind in (ErrorKind.TLS_CHAIN, ErrorKind.TLS_NAME, ErrorKind.TLS_EXPIRED):
        return f"{url} cannot be trusted ({kind}): {said}{_cure(kind, ca_bundle)}"
    return f"{url} cannot be reached: {said}"
