"""The pace of one key: what keeps it, and what it learns from."""

from __future__ import annotations

from tensorix_api.budget import Spend
from tensorix_loadtests._pacing._charges import read_usage
from tensorix_loadtests._pacing._from_headers import FromHeaders
from tensorix_loadtests._pacing._from_refusals import FromRefusals
from tensorix_loadtests._pacing._keeper import Keeper
from tensorix_loadtests._pacing._tally import Sent
from tensorix_loadtests.plan import Limits
from tensorix_records import RequestRecord

__all__ = ["KeyPace"]


class KeyPace:
    """Keeps one key within a share of its limits: a keeper, told of the limiter by headers and by refusals."""

    def __init__(self, limits: Limits, share: float, *, parts: int = 1, part: int = 0) -> None:
        """`parts`: as many processes use the key, and this is the `part`-th of them, from 0: what they have comes to
        the share, where that holds a unit for each.
        """
        self._keeper = keeper = Keeper(round(limits.window_s * 1e9), share, parts, part)
        self._headers = FromHeaders(keeper, limits.told)
        self._refusals = FromRefusals(keeper)
        if limits.requests is not None:
            keeper.limit_is("requests", limits.requests)
        if limits.tokens is not None:
            keeper.limit_is("tokens", limits.tokens)

    @property
    def knows_a_limit(self) -> bool:
        """Whether there is anything to keep to: without, nothing is held back."""
        return self._keeper.requests is not None or self._keeper.tokens is not None

    def wait_ns(self, now_ns: int, worst: Spend) -> int:
        """How long to wait before a request that uses this at worst may be sent; 0: it may go now. Takes nothing."""
        return self._keeper.wait_ns(now_ns, worst)

    def sent(self, now_ns: int, worst: Spend) -> Sent:
        """It goes. What comes back is given to `settle`."""
        return self._keeper.sent(now_ns, worst)

    def started(self, at_ns: int, token: Sent) -> None:
        """It really goes now, behind the opening of a connection."""
        self._keeper.started(at_ns, token)

    def settle(self, now_ns: int, token: Sent, actual: Spend | None, record: RequestRecord) -> None:
        """It has ended; `actual` is what it used by the server's own word, None where that said nothing."""
        if record.end_at_ns is not None:
            token.started_ns = max(token.at_ns, now_ns - record.end_at_ns)
        read_usage(token, record)
        if token.prompt_tokens is None and actual is not None:
            token.prompt_tokens, token.completion_tokens = actual.tokens, 0
        self._keeper.ended(token, success=record.outcome == "success")
        self._headers.hear(now_ns, record)
        if record.outcome == "throttled":
            self._refusals.learn(now_ns, token, record)

    def release(self, now_ns: int, token: Sent) -> None:
        """It was never sent."""
        self._keeper.release(token)

    def seen(self, now_ns: int, record: RequestRecord) -> None:
        """A response to a request that did not pass here, such as the look before the run."""
        self._headers.hear(now_ns, record)

    def remaining(self, now_ns: int) -> tuple[int | None, int | None]:
        """The requests and tokens that are left of the share by its own ledger; None of a kind without a limit."""
        requests, tokens = self._keeper.requests, self._keeper.tokens
        return (requests.left(now_ns) if requests else None, tokens.left(now_ns) if tokens else None)

    def words(self) -> list[str]:
        """What was learned about the limits since the last call, a line each."""
        return self._keeper.words()
