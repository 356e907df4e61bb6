"""The load client: one user's requests, one after the other, each ending in one record whatever becomes of it."""

from __future__ import annotations

from collections.abc import Callable

from tensorix_api.secret import Secret
from tensorix_loadtests._attempt import Attempt, always
from tensorix_loadtests._call import Call
from tensorix_loadtests._connection import Connection
from tensorix_loadtests._origin import Origin
from tensorix_loadtests._recording import Result, result_of
from tensorix_loadtests._session import Session

__all__ = ["LoadClient"]

_UNPLANNED = Origin()


class LoadClient:
    """Sends one user's requests over one connection that is kept alive.

    `send` blocks the calling greenlet, never the process, and returns a `Result` for whatever happens. Only killing the
    greenlet raises (GreenletExit, after `on_result` has had the record of the request that was cancelled).
    """

    def __init__(
        self,
        session: Session,
        *,
        user_class: str | None = None,
        user_id: int | None = None,
        on_result: Callable[[Result], None] | None = None,
    ) -> None:
        self._session = session
        self._user_class = user_class
        self._user_id = user_id
        self._on_result = on_result or (lambda result: None)
        self._connection: Connection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def send(
        self,
        call: Call,
        origin: Origin = _UNPLANNED,
        *,
        key: Secret | None = None,
        may_resend: Callable[[], bool] = always,
        on_start: Callable[[int], None] | None = None,
    ) -> Result:
        """Make one request. Without a key it is sent with the session's.

        `may_resend` is asked before it goes out once more, since the server had closed the kept connection;
        `on_start` is told when its first byte goes.
        """
        key = key or self._session.settings.api_key
        attempt = Attempt(self._session, call, self._connection, origin, key, may_resend, on_start)
        try:
            attempt.run()
        except BaseException as error:
            # Killed while it waited, or a defect of ours: recorded either way.
            attempt.interrupted(error)
            self._keep(attempt)
            self._on_result(self._result(attempt))
            raise
        self._keep(attempt)
        result = self._result(attempt)
        self._on_result(result)
        return result

    def _keep(self, attempt: Attempt) -> None:
        connection = attempt.connection
        exchange = attempt.exchange
        if connection is not None:
            connection.receiver = None
            if not (exchange and exchange.complete and exchange.keep_alive):
                connection.close()
        self._connection = connection if connection is not None and connection.usable else None

    def _result(self, attempt: Attempt) -> Result:
        return result_of(attempt, user_class=self._user_class, user_id=self._user_id)
