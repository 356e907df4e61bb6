"""What a worker holds until the master has it: paced, in order, bounded, and sent again where it got lost."""

from __future__ import annotations

import random

from tensorix_loadtests._distributed._outbox import Outbox

_SECOND = 1_000_000_000


def test_the_pace() -> None:
    """However much waits, no more than 128 KiB a second is sent, a burst of 64 KiB and one parcel aside."""
    outbox = Outbox()
    for _ in range(100):
        assert outbox.put({}, 40_000, 10)
    sent, now = 0, 0
    for _ in range(2_000):
        now += 5_000_000
        for parcel in outbox.due(now):
            sent += parcel.size
            outbox.acknowledged(parcel.number, now)
        assert sent <= (128 << 10) * now / _SECOND + (64 << 10) + 40_000
    assert sent >= (128 << 10) * 9


def test_what_finds_no_room() -> None:
    """With a master that takes nothing, what waits is bounded and the rest is lost and counted."""
    outbox = Outbox(most_bytes=100_000)
    taken = [outbox.put({}, 30_000, 7) for _ in range(10)]
    assert taken == [True] * 3 + [False] * 7
    assert (outbox.taken, outbox.lost, outbox.parcels, outbox.undelivered) == (21, 49, 3, 21)


def test_lost_messages() -> None:
    """Over a connection that loses parcels and acknowledgements, each parcel arrives, in order, and is taken once."""
    rng = random.Random(4)
    outbox, now = Outbox(), 0
    arrived: list[int] = []
    for number in range(60):
        outbox.put({"n": number}, 1_000, 1)
    while not outbox.empty:
        now += 50_000_000
        assert now < 600 * _SECOND
        for parcel in outbox.due(now):
            if rng.random() < 0.2:
                continue
            if parcel.number == len(arrived):
                arrived.append(parcel.message["n"])
            if rng.random() < 0.8:
                outbox.acknowledged(len(arrived) - 1, now)
    assert arrived == list(range(60))


def test_the_end() -> None:
    """At the end all of it goes at once."""
    outbox = Outbox()
    for _ in range(50):
        outbox.put({}, 40_000, 1)
    assert len(outbox.due(0)) == 2
    assert len(outbox.due(1, at_once=True)) == 48
