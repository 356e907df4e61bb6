"""What stands before each request: whether it may be sent, with which key, and what it was set aside for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tensorix_api.budget import Spend
from tensorix_api.secret import Secret
from tensorix_loadtests._call import Call
from tensorix_loadtests._origin import Origin
from tensorix_records import RequestRecord

__all__ = ["Closed", "Gate", "OpenGate", "Pace", "Passed", "Wait"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A request may be sent, with this key. It is settled or released once."""

    key: Secret | None
    reserved_tokens: int | None = None
    """What was set aside, at worst."""
    ledger_remaining_requests: int | None = None
    ledger_remaining_tokens: int | None = None
    started: Callable[[int], None] | None = None
    """To be told the instant (monotonic ns) at which it really goes, behind the opening of a connection."""
    paced: bool = False
    """Whether the gate holds the next requests back itself where this one is refused."""
    held: Any = None
    """What the gate itself remembers."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: ask again after so many seconds, or sooner when another request has ended."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Closed:
    """Never again: the run ends for this reason (a word for the manifest, a line for people)."""

    reason: str
    words: str | None = None
    in_order: bool = False
    """It did what was asked: nothing went wrong."""


class Gate(Protocol):
    """Asked before each request, told after it. Times are its own affair (it is given a clock).

    All but `lane` and `without` raise RunFolderError where they cannot write down what they let pass.
    """

    def lane(self, user_id: int) -> int:
        """In which queue the user waits: those of one lane pass in the order in which they came."""
        ...

    def admit(self, call: Call, user_id: int, origin: Origin) -> Passed | Wait | Closed: ...

    def again(self, passed: Passed) -> bool:
        """Whether it may go out once more now, since its connection was closed under it."""
        ...

    def settle(self, passed: Passed, record: RequestRecord) -> float | None:
        """What it cost, at most; None where no prices are known."""
        ...

    def release(self, passed: Passed) -> None:
        """It was never sent."""

    def without(self, key_alias: str | None) -> bool:
        """Use that key no more; whether there are others to go on with."""
        ...

    def left(self) -> dict[str, float]:
        """What is left of each cap, by its kind; what is set aside is not."""
        ...

    def words(self) -> list[str]:
        """What there is to say of the keys since it was last asked, each in one line."""
        ...


class Pace(Protocol):
    """Keeps what is sent with one key within a share of its limits. Times are monotonic ns.

    Each `sent` is followed by one `settle`, or by one `release`; between them `started` may tell when it really went.
    """

    def wait_ns(self, now_ns: int, worst: Spend) -> int:
        """How long to wait before a request that uses this at worst may be sent; 0: it may go now. Takes nothing."""
        ...

    def sent(self, now_ns: int, worst: Spend) -> Any:
        """It goes. What comes back is given to `settle`."""
        ...

    def started(self, at_ns: int, token: Any) -> None:
        """It really goes now, behind the opening of a connection."""

    def settle(self, now_ns: int, token: Any, actual: Spend | None, record: RequestRecord) -> None:
        """It has ended; `actual` is what it used by the server's own word, None where that said nothing."""

    def release(self, now_ns: int, token: Any) -> None:
        """It was never sent."""

    def seen(self, now_ns: int, record: RequestRecord) -> None:
        """A response to a request that did not pass here, such as the look before the run."""

    def remaining(self, now_ns: int) -> tuple[int | None, int | None]:
        """The requests and tokens that are left of the share by its own ledger; None of a kind without a limit."""
        ...

    def words(self) -> list[str]:
        """What it has noticed since it was last asked, each in one line."""
        ...


class OpenGate:
    """Lets everything pass, with one key."""

    def __init__(self, key: Secret | None) -> None:
        self._passed = Passed(key=key)

    def lane(self, user_id: int) -> int:
        """One is enough where nobody waits."""
        return 0

    def admit(self, call: Call, user_id: int, origin: Origin) -> Passed | Wait | Closed:
        """Always."""
        return self._passed

    def again(self, passed: Passed) -> bool:
        """Always."""
        return True

    def settle(self, passed: Passed, record: RequestRecord) -> float | None:
        """Nothing was set aside."""
        return None

    def release(self, passed: Passed) -> None:
        """Nothing was set aside."""

    def without(self, key_alias: str | None) -> bool:
        """There is no other."""
        return False

    def left(self) -> dict[str, float]:
        """There are no caps."""
        return {}

    def words(self) -> list[str]:
        """Nothing."""
        return []
