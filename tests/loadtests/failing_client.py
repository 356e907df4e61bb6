"""A program that breaks the load client at one place after the other, and prints each traceback with its locals.

It prints them as the standard library does (`capture_locals`) and as rich does. The key is in TENSORIX_API_KEY, the
address of a server in the first argument, the value of an extra header on standard input.
"""

from gevent import monkey

monkey.patch_all()

import io  # noqa: E402
import sys  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402
from unittest.mock import patch  # noqa: E402

from rich.console import Console  # noqa: E402
from rich.traceback import Traceback  # noqa: E402

from tensorix_api.secret import Secret  # noqa: E402
from tensorix_api.settings import Settings  # noqa: E402
from tensorix_loadtests import _attempt, _beginning, _connection, _exchange, _recording, _session, _target  # noqa: E402
from tensorix_loadtests._call import Call  # noqa: E402
from tensorix_loadtests._client import LoadClient  # noqa: E402
from tensorix_loadtests.plan import LoadPlan  # noqa: E402


class Unexpected(Exception):  # noqa: N818 - a defect that nobody thought of
    """What is raised at each place."""


def _raise(*_: Any, **__: Any) -> Any:
    raise Unexpected


PLACES: list[tuple[Any, str]] = [
    (_recording, "judge"),
    (_recording, "read_rate_limits"),
    (_recording, "RequestRecord"),
    (_attempt, "Exchange"),
    (_session.Session, "wire"),
    (_attempt.Attempt, "_wait"),
    (_connection.Connection, "open"),
    (_connection.Connection, "send"),
    (_connection.Connection, "_write"),
    (_connection.Connection, "_wait"),
    (_connection.Connection, "_tunnel"),
    (_exchange, "SSEReader"),
    (_beginning, "Settings"),
    (_target.Target, "of"),
    (_beginning, "Session"),
]


def _show(error: BaseException) -> None:
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    sys.stdout.write("".join(lines))
    shown = Traceback.from_exception(
        type(error), error, error.__traceback__, show_locals=True, locals_max_string=100_000, locals_max_length=10_000
    )
    out = io.StringIO()
    Console(file=out, width=10_000).print(shown)
    sys.stdout.write(out.getvalue())


def main() -> None:
    """Break it everywhere."""
    base_url = sys.argv[1]
    plan = LoadPlan(base_url=base_url, requests=1, headers={"X-Gateway-Token": sys.stdin.read()})
    call = Call.chat([{"role": "user", "content": "hi"}], model="m", stream=True, max_tokens=3)
    broken = 0
    for owner, name in PLACES:
        with patch.object(owner, name, _raise):
            try:
                _go(plan, Settings.from_environment(base_url=base_url).api_key, call)
            except Unexpected as error:
                broken += 1
                _show(error)
    sys.stdout.write(f"\nbroken at {broken} places\n")


def _go(plan: LoadPlan, key: Secret | None, call: Call) -> None:
    session = _beginning.open_session(plan, key)
    client: Any = LoadClient(session)
    send: Callable[..., Any] = client.send
    try:
        send(call)
    finally:
        client.close()


if __name__ == "__main__":
    main()
