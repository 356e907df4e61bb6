"""Prompts from files, as people have them; a wrong entry is one line that names the file and the line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.errors import SettingsError
from tensorix_loadtests.plan import Lengths, LoadPlan, Prompting
from tensorix_loadtests.prompts import Prompt, Prompts, survey
from tensorix_loadtests.prompts._entries import Entries

Opened = Callable[..., list[Prompt]]


def _plan(path: Path, **asked: Any) -> LoadPlan:
    return LoadPlan(base_url="http://127.0.0.1:9/v1", requests=10, prompting=Prompting(path=str(path), **asked))


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """The first prompts of a file with this name and text; as the survey of the whole file allows."""

    def take(name: str, text: str, count: int = 1, **asked: Any) -> list[Prompt]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", newline="")
        plan = _plan(path, **asked)
        survey(plan)
        prompts = Prompts(plan)
        taken = [prompts.next() for _ in range(count)]
        prompts.close()
        return taken

    return take


def _said(prompts: list[Prompt]) -> list[Any]:
    return [[message["content"] for message in prompt.messages] for prompt in prompts]


def test_messages_a_line(opened: Opened) -> None:
    """Lists of messages are sent as they are, with their own bounds, models and further fields of the body."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    lines: list[Any] = [
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "max_tokens": 7},
        [{"role": "user", "content": [{"type": "text", "text": "é"}]}],
        {"messages": [{"role": "user", "content": "x"}], "model": "m", "tools": tools, "n": 2, "id": 4, "stream": True},
        {"custom_id": "1", "url": "/v1/x", "body": {"messages": [{"role": "user", "content": "batch"}], "top_p": 0.5}},
        {"prompt": "plain"},
    ]
    text = "\ufeff" + "\n\n".join(map(json.dumps, lines)) + "\r\n"
    prompts = opened("m.jsonl", text, 6)
    assert _said(prompts)[0] == ["s", "u"] == _said(prompts)[5]
    assert _said(prompts)[1:5] == [[[{"type": "text", "text": "é"}]], ["x"], ["batch"], ["plain"]]
    assert [prompt.max_tokens for prompt in prompts[:2]] == [7, None]
    assert (prompts[2].model, prompts[2].body) == ("m", {"tools": tools, "n": 2})
    assert prompts[3].body == {"top_p": 0.5}
    assert [prompt.conversation_id for prompt in prompts] == [None] * 6
    listed = opened("m.json", json.dumps(lines, indent=1), 6)
    assert (_said(listed), [prompt.body for prompt in listed]) == (_said(prompts), [prompt.body for prompt in prompts])


def test_sharegpt_conversations(opened: Opened) -> None:
    """What the humans of a conversation said is said again, in its order; the answers are the model's own."""
    talks = [
        {"id": "a", "conversations": [{"from": "gpt", "value": "Hello"}, {"from": "human", "value": "Hi 你"}]},
        {"id": "b", "conversations": []},
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "1?"},
                {"from": "gpt", "value": "one"},
                {"from": "human", "value": "2?"},
            ]
        },
    ]
    for name, text in (
        ("s.json", json.dumps(talks, ensure_ascii=False)),
        ("s.jsonl", "\n".join(map(json.dumps, talks))),
    ):
        first, second, again = opened(name, text, 3)
        assert _said([first, second, again]) == [["Hi 你"], ["Be brief.", "1?"], ["Hi 你"]]
        assert (first.wants_answer, second.wants_answer, second.turn) == (False, True, 1)
        (once,) = opened(name, text, 1, turns=Lengths(mean=1))
        assert not once.wants_answer


def test_tables_and_lines(opened: Opened) -> None:
    """A table's prompts may hold commas and line ends; of plain text each line that is not empty is a prompt."""
    table = 'Model,prompt,max_tokens,note\r\n,"a, ""b""\r\nc",5,x\r\n\r\nm,d,,\r\n'
    prompts = opened("t.csv", table, 3)
    assert _said(prompts) == [['a, "b"\r\nc'], ["d"], ['a, "b"\r\nc']]
    assert [(prompt.max_tokens, prompt.model) for prompt in prompts[:2]] == [(5, None), (None, "m")]
    assert _said(opened("t.txt", "[1] first\n\n  second \n", 3)) == [["[1] first"], ["second"], ["[1] first"]]
    asked = opened("t.txt", "one\ntwo\nthree\n", 2, turns=Lengths(mean=2))
    assert [prompt.wants_answer for prompt in asked] == [True, True]


@pytest.mark.parametrize(
    ("name", "text", "line", "why"),
    [
        ("a.jsonl", '{"messages": [{"role": "user", "content": "x"}]}\n\n{"messages": [', 3, "no JSON"),
        ("a.jsonl", '{"question": "x"}', 1, "no list of messages"),
        ("a.jsonl", '[{"role": "user", "content": "x"}]\n[{"content": "x"}]', 2, '"role"'),
        ("a.jsonl", '[{"role": "user", "content": 5}]', 1, '"content"'),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', 1, "max_tokens is '0'"),
        ("a.jsonl", '[{"role": "user", "content": "\\ud800"}]', 1, "UTF-8"),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "x"}], "top_p": NaN}', 1, "number"),
        ("a.jsonl", '"x"', 1, "no JSON object"),
        ("a.jsonl", "[" * 100_000, 1, "deep"),
        ("a.json", '[{"conversations": [{"from": "human", "value": "x"}]},\n {"conversations": [1]}]', 2, "no object"),
        ("a.json", '[{"conversations": [{"from": "human", "value": "x"}]},\n\n{"conversations": oops}]', 3, "no JSON"),
        ("a.json", '[{"conversations": [{"from": "human", "value": "x"}]},\n', 2, "neither an object"),
        ("a.json", '[{"conversations": [{"from": "human", "value": "x"}]}\n{}]', 2, "comma"),
        ("a.json", '[\n{"conversations": [{"from": "human", "value": "x', 2, "no JSON"),
        ("a.csv", "question\nx\n", 1, "no column prompt"),
        ("a.csv", "prompt,max_tokens\nx,1\ny,many\n", 3, "max_tokens is 'many'"),
        ("a.csv", 'prompt\n"x\n', 2, "no row"),
        ("a.csv", "prompt,model\n,m\n", 2, "empty"),
    ],
)
def test_a_wrong_entry_is_named(name: str, text: str, line: int, why: str, tmp_path: Path) -> None:
    """The file and the line of what is wrong stand in one line, found before anything is sent."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SettingsError) as refused:
        survey(_plan(path))
    said = str(refused.value)
    assert said.startswith(f"the prompt file {str(path)!r}, line {line}: "), said
    assert why in said
    assert "\n" not in said


def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    """A file that is missing, empty or no text is refused in one line; one that shrinks during the run, too."""
    for name, data, why in (("none", None, "cannot be read"), ("e.jsonl", b"\n", "no prompt"), ("b", b"\xff", "UTF-8")):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(SettingsError, match=why):
            Prompts(_plan(tmp_path / name))
    nobody = tmp_path / "nobody.json"
    nobody.write_text('[{"conversations": []}]')
    with pytest.raises(SettingsError, match="in which somebody asks"):
        Prompts(_plan(nobody))
    path = tmp_path / "shrinks.txt"
    path.write_text("one\ntwo\n")
    prompts = Prompts(_plan(path))
    assert [prompt.messages[0]["content"] for prompt in (prompts.next(), prompts.next())] == ["one", "two"]
    path.write_text("[]")
    with pytest.raises(SettingsError, match="changed while it was read"):
        prompts.next()
    prompts.close()


def test_an_array_is_read_by_the_piece(tmp_path: Path) -> None:
    """Elements come out whole wherever the pieces of the file end, be they larger than a piece or full of quotes."""
    texts = [('x\\"[{é你' * (1 + number * 37 % 4000)) + str(number) for number in range(150)]
    path = tmp_path / "large.json"
    talks = [{"conversations": [{"from": "human", "value": text}]} for text in texts]
    path.write_text(json.dumps(talks, ensure_ascii=False, indent=2), encoding="utf-8")
    assert path.stat().st_size > 3_000_000
    entries = Entries(str(path))
    assert [script.opening[0]["content"] for script in entries] == texts
    assert [entries.script(number).opening[0]["content"] for number in (149, 0, 150)] == [
        texts[149],
        texts[0],
        texts[0],
    ]
    entries.close()


def test_a_large_file_is_not_held(tmp_path: Path) -> None:
    """Looking through a file of 40 MB takes less memory than half of it."""
    path = tmp_path / "large.json"
    with path.open("w") as file:
        file.write("[")
        for number in range(4_000):
            talk = [{"from": who, "value": f"{number} " * 1250} for who in ("human", "gpt")]
            file.write(("," if number else "") + json.dumps({"conversations": talk}))
        file.write("]")
    assert path.stat().st_size > 40e6
    code = (
        "import resource, sys\n"
        "from tensorix_loadtests.plan import LoadPlan, Prompting\n"
        "from tensorix_loadtests.prompts import survey\n"
        "def used():\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = used()\n"
        "plan = LoadPlan(base_url='http://127.0.0.1:9/v1', requests=1, prompting=Prompting(path=sys.argv[1]))\n"
        "assert survey(plan).prompts == 4000\n"
        "print(used() - before)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 20_000
