"""Makes what is left of a limit last, where headers say that less is left than our own count."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Spread"]

_LITTLE = 2


@dataclass(slots=True)
class _Episode:
    """Less is left than we have left of it: somebody else uses the key, or did before, or the limit is smaller."""

    until_ns: int
    """By then the window is over that is open now."""
    first_left: int
    first_count: int
    left: int
    count: int


class Spread:
    """Half of what is left goes at our own pace, which shows whether it falls as we send or flows back meanwhile.

    Where it falls, the rest is spread over what may remain of the window. Where it flows back, the header speaks of
    another limit, a short one or a bucket, and is left alone.
    """

    __slots__ = ("_episode", "is_of_another_limit")

    def __init__(self) -> None:
        self._episode: _Episode | None = None
        self.is_of_another_limit = False

    @property
    def holds(self) -> bool:
        """Whether less is left than by our own count."""
        return self._episode is not None and not self.is_of_another_limit

    def hear(
        self, at_ns: int, left: int, count: int, ours: float, limit: float, over_ns: int, *, others: int = 0
    ) -> None:
        """A response said what is left; `count` is how many we sent by then, `ours` how many of them in the last
        window, `over_ns` when the window that is open now is over at the latest, `others` how much faster it fell than
        we sent.
        """
        if not others and limit - ours - left <= max(_LITTLE, limit / 20):
            self._episode = None
            return
        episode = self._episode
        if episode is None or at_ns >= episode.until_ns:
            self._episode = _Episode(over_ns, left, count, left, count)
            return
        if count <= episode.count:
            return
        episode.left, episode.count = left, count
        episode.until_ns = min(episode.until_ns, over_ns)
        sent = count - episode.first_count
        if sent > _LITTLE and episode.first_left - left <= sent / 2:
            self.is_of_another_limit = True

    def wait_ns(self, now_ns: int, count: int, last_ns: int) -> int:
        """How long until one more may go; the last went at `last_ns`, the `count`th."""
        episode = self._episode
        if episode is None or self.is_of_another_limit or now_ns >= episode.until_ns:
            return 0
        left = episode.left - (count - episode.count)
        if 2 * left > episode.first_left or episode.first_left <= _LITTLE:
            return 0
        if left <= 0:
            return episode.until_ns - now_ns
        return max(0, last_ns + (episode.until_ns - last_ns) // (left + 1) - now_ns)
