"""The batch of the latency model, by hand: small cases whose every time can be worked out on paper."""

from __future__ import annotations

import pytest

from tensorix_simulator.latency.batch import Batch, BatchModel, Generation
from tensorix_simulator.latency.slots import Slots

MS = 1_000_000
# A step takes 10 ms, 1 ms more a sequence that is decoded, 1 ms more a prompt token.
MODEL = BatchModel(step_ns=10 * MS, step_per_sequence_ns=1 * MS, prompt_tokens_per_s=1000.0)


def one(name: str, at_ms: int, prompt: int, tokens: int, sequences: int = 1) -> Generation[str]:
    return Generation(name, at_ms * MS, prompt, tokens, sequences)


def tokens_until_idle(batch: Batch[str]) -> dict[str, list[float]]:
    """When each got its tokens, in ms, up to the end of all that is there."""
    times: dict[str, list[float]] = {}
    while (end_ns := batch.next_ns) is not None:
        for generation in batch.step():
            times.setdefault(generation.owner, []).append(end_ns / MS)
    return times


def test_one_request() -> None:
    """Its first token comes after a step and its prompt, each other one after a step that decodes it alone."""
    batch: Batch[str] = Batch(MODEL)
    assert batch.arrive(one("a", 100, 5, 3))
    assert tokens_until_idle(batch) == {"a": [115, 126, 137]}
    assert batch.next_ns is None
    assert batch.line.running == 0


def test_one_that_comes_in_mid_step_joins_at_its_end() -> None:
    """The prompt of the second is processed in the same step that decodes the first, and makes that step longer."""
    batch: Batch[str] = Batch(MODEL)
    late = one("b", 7, 4, 2)
    batch.arrive(one("a", 0, 5, 3))
    batch.arrive(late)
    # 0 to 15: a's prompt; to 30: a decoded, b's prompt; to 42: both decoded.
    assert tokens_until_idle(batch) == {"a": [15, 30, 42], "b": [30, 42]}
    assert late.started_ns == 15 * MS


def test_one_that_waits_for_a_slot_gets_it_when_the_first_is_over() -> None:
    """With one slot, each starts at the end of the one before, in the order in which they came."""
    batch: Batch[str] = Batch(MODEL, slots=1)
    batch.arrive(one("a", 0, 5, 2))
    batch.arrive(one("b", 1, 1, 1))
    batch.arrive(one("c", 2, 2, 1))
    assert tokens_until_idle(batch) == {"a": [15, 26], "b": [37], "c": [49]}


def test_an_idle_engine_begins_with_the_next_arrival() -> None:
    """Not with the end of the last step, nor on some grid of steps."""
    batch: Batch[str] = Batch(MODEL)
    batch.arrive(one("a", 0, 1, 1))
    assert tokens_until_idle(batch) == {"a": [11]}
    batch.arrive(one("b", 50, 1, 1))
    assert tokens_until_idle(batch) == {"b": [61]}


def test_beyond_slots_and_queue_it_is_turned_away() -> None:
    """With 2 slots and 1 place in the queue a fourth finds no room until one is over."""
    batch: Batch[str] = Batch(MODEL, slots=2, queue=1)
    assert batch.arrive(one("a", 0, 1, 1))
    # The slot that b will have is free, but only given at the end of the step: b is in line for it, not in the queue.
    assert batch.arrive(one("b", 1, 1, 5))
    assert batch.arrive(one("c", 2, 1, 5))
    assert not batch.arrive(one("d", 3, 1, 1))
    batch.step()
    assert batch.line.running == 2
    assert batch.arrive(one("e", 12, 1, 1))
    assert not batch.arrive(one("f", 13, 1, 1))


def test_without_a_queue_none_waits_for_another() -> None:
    """A queue of 0 leaves as many in the engine as there are slots."""
    batch: Batch[str] = Batch(MODEL, slots=1, queue=0)
    assert batch.arrive(one("a", 0, 1, 1))
    assert not batch.arrive(one("b", 1, 1, 1))
    batch.step()
    assert batch.arrive(one("c", 12, 1, 1))


def test_a_long_prompt_is_processed_in_pieces() -> None:
    """With 4 prompt tokens a step, decoding goes on in each step, and prompts take their turns."""
    model = BatchModel(
        step_ns=10 * MS, step_per_sequence_ns=1 * MS, prompt_tokens_per_s=1000.0, prompt_tokens_per_step=4
    )
    batch: Batch[str] = Batch(model)
    batch.arrive(one("a", 0, 1, 4))
    batch.arrive(one("long", 1, 6, 1))
    batch.arrive(one("short", 2, 3, 1))
    # 0 to 11: a's prompt; to 26: a, 4 of long; to 41: a, 2 of long and 2 of short; to 53: a, the last of short.
    assert tokens_until_idle(batch) == {"a": [11, 26, 41, 53], "long": [41], "short": [53]}


def test_each_choice_is_a_sequence() -> None:
    """A request for three choices makes a decoding step longer by three."""
    batch: Batch[str] = Batch(MODEL)
    batch.arrive(one("a", 0, 1, 2, sequences=3))
    assert tokens_until_idle(batch) == {"a": [11, 24]}


def test_an_empty_prompt_takes_a_step_too() -> None:
    """It counts as one token."""
    batch: Batch[str] = Batch(MODEL)
    batch.arrive(one("a", 0, 0, 1))
    assert tokens_until_idle(batch) == {"a": [11]}


def test_one_that_goes_frees_its_slot_at_the_end_of_the_step() -> None:
    """It gets no token then, and who waits starts."""
    batch: Batch[str] = Batch(MODEL, slots=1)
    leaving = one("a", 0, 1, 100)
    batch.arrive(leaving)
    batch.arrive(one("b", 1, 1, 1))
    batch.leave(leaving)
    assert tokens_until_idle(batch) == {"b": [22]}


def test_one_that_goes_from_the_queue_frees_its_place_at_once() -> None:
    """The next arrival has it."""
    batch: Batch[str] = Batch(MODEL, slots=1, queue=1)
    leaving = one("b", 1, 1, 1)
    batch.arrive(one("a", 0, 1, 1))
    batch.arrive(leaving)
    assert not batch.arrive(one("c", 2, 1, 1))
    batch.leave(leaving)
    assert batch.arrive(one("d", 3, 1, 1))
    assert tokens_until_idle(batch) == {"a": [11], "d": [22]}


def test_the_last_one_gone_leaves_the_engine_idle() -> None:
    """At the end of the step under way."""
    batch: Batch[str] = Batch(MODEL)
    leaving = one("a", 0, 1, 5)
    batch.arrive(leaving)
    batch.leave(leaving)
    assert tokens_until_idle(batch) == {}
    assert batch.line.running == 0


def test_a_late_caller_gets_the_same_times() -> None:
    """Where arrivals are told before the steps are ended that ended earlier, none joins a step that began before it."""
    prompt, late = Batch[str](MODEL), Batch[str](MODEL)
    coming = [one("a", 0, 5, 3), one("b", 20, 4, 2), one("c", 100, 1, 1)]
    for generation in [one("a", 0, 5, 3), one("b", 20, 4, 2), one("c", 100, 1, 1)]:
        late.arrive(generation)
    times: dict[str, list[float]] = {}
    for generation in coming:
        while prompt.next_ns is not None and prompt.next_ns < generation.at_ns:
            end_ns = prompt.next_ns
            for served in prompt.step():
                times.setdefault(served.owner, []).append(end_ns / MS)
        prompt.arrive(generation)
    for name, more in tokens_until_idle(prompt).items():
        times.setdefault(name, []).extend(more)
    assert tokens_until_idle(late) == times


def test_the_same_seed_and_arrivals_give_the_same_times() -> None:
    """With noise as without; another seed gives others."""

    def times(seed: int) -> dict[str, list[float]]:
        noisy = BatchModel(step_ns=10 * MS, step_per_sequence_ns=1 * MS, prompt_tokens_per_s=1000.0, noise=0.2)
        batch: Batch[str] = Batch(noisy, slots=4, queue=10, seed=seed)
        for k in range(12):
            batch.arrive(one(str(k), 3 * k, 2 + k % 5, 1 + k % 7))
        return tokens_until_idle(batch)

    assert times(1) == times(1)
    assert times(1) != times(2)


def test_noise_changes_no_mean() -> None:
    """The mean step of 20,000 under noise of sigma 0.3 is the step without it, within four standard errors."""
    batch: Batch[str] = Batch(BatchModel(step_ns=10 * MS, noise=0.3))
    batch.arrive(one("a", 0, 1, 20_000))
    last_ms = tokens_until_idle(batch)["a"][-1]
    # The factor's standard deviation is sqrt(exp(0.09) - 1) = 0.307.
    assert last_ms / 20_000 == pytest.approx(10, abs=4 * 10 * 0.307 / 20_000**0.5)


def test_bounds_may_change_while_it_runs() -> None:
    """Who runs stays; fewer slots hold for who comes after, more slots are given at the end of the step."""
    batch: Batch[str] = Batch(MODEL, slots=2)
    for k in range(4):
        batch.arrive(one(str(k), 0, 1, 3))
    batch.step()
    assert batch.line.running == 2
    batch.line.slots = 1
    batch.step()
    assert (batch.line.running, batch.line.waiting) == (2, 2)
    batch.line.slots = 4
    batch.step()
    assert (batch.line.running, batch.line.waiting) == (3, 0)


def test_an_idle_engine_has_no_step() -> None:
    """To end one is the caller's mistake."""
    with pytest.raises(RuntimeError, match="idle"):
        Batch[str](MODEL).step()


def test_the_line_gives_slots_in_order() -> None:
    """No more than there are, to the first first, and none to one who is yet to come."""
    line: Slots[Generation[str]] = Slots(slots=1, queue=1)
    first, second = one("a", 5, 1, 1), one("b", 6, 1, 1)
    assert line.join(first)
    assert line.join(second)
    assert line.full
    assert line.take(4 * MS) is None
    assert line.take() is first
    assert line.take() is None
    line.release()
    assert line.take() is second
    assert not line.quit(second)
