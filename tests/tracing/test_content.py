"""What was said: nothing of it unasked; asked for, in the conventions' shape, redacted, shortened, without images."""

from __future__ import annotations

import base64
import json
import logging
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessage
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from tensorix_api import semantic_names as names
from tensorix_simulator import Simulator
from tensorix_tracing import _content, instrument
from tensorix_tracing._content import Content

KEY = "the-key-of-this-test-0123456789"
CONTENTS = (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES, names.SYSTEM_INSTRUCTIONS, names.TOOL_DEFINITIONS)
QUESTION, ANSWER = "Wherefore xylophone quokka?", "Because zeppelin marzipan."
PARAMETERS = {"type": "object", "properties": {"gazetteer": {"type": "string"}}, "required": ["gazetteer"]}
TOOLS = [
    {"type": "function", "function": {"name": "almanac", "description": "Looks up fjords.", "parameters": PARAMETERS}}
]
USER = {"role": "user", "parts": [{"type": "text", "content": QUESTION}]}


@pytest.fixture(scope="module")
def knowing() -> Iterator[Simulator]:
    """A simulator that knows an answer, and reasons before it."""
    settings: dict[str, Any] = {"ttft": "1ms", "between_tokens": "1ms", "answers": {QUESTION: ANSWER}}
    with Simulator(rpm=None, tpm=None, **settings) as simulator:
        yield simulator
        assert simulator.complaints() == ""


def ask(base_url: str, told: Any, messages: list[Any], *, streamed: bool, **options: Any) -> Any:
    """One call of openai's; what was captured is in `told`."""
    traced = {name: options.pop(name) for name in ("capture_content", "content_limit", "redact") if name in options}
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        instrument(client, **told.providers, **traced)
        answer = client.chat.completions.create(
            **{"model": "z-ai/glm-5", "messages": messages, "stream": streamed, **options}
        )
        return list(answer) if streamed else answer


def said_in(answer: Any) -> str:
    """The text of an answer, streamed or not."""
    if not isinstance(answer, list):
        return str(answer.choices[0].message.content)
    return "".join(chunk.choices[0].delta.content or "" for chunk in answer)


def captured(told: Any) -> dict[str, Any]:
    """The contents of the only span, taken from their JSON."""
    return {name: json.loads(told.span().attributes[name]) for name in CONTENTS if name in told.span().attributes}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_nothing_is_captured_unasked(
    streamed: bool, knowing: Simulator, told: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Without asking for it no word of question, answer or tools is in any span, metric or log."""
    caplog.set_level(logging.DEBUG, "tensorix_tracing")
    messages = [{"role": "system", "content": "Obfuscate periwinkles."}, {"role": "user", "content": QUESTION}]
    answer = ask(knowing.base_url, told, messages, streamed=streamed, tools=TOOLS, user="somebody", max_tokens=50)
    words = ["xylophone", "quokka", "zeppelin", "marzipan", "periwinkle", "almanac", "gazetteer", "fjord", "somebody"]
    assert said_in(answer) == ANSWER
    everything = told.span().to_json() + str(told.reader.get_metrics_data().to_json()) + caplog.text
    assert [word for word in words if word in everything.lower()] == []


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_question_and_answer(streamed: bool, knowing: Simulator, told: Any) -> None:
    """Messages in and out, instructions and tools, each as JSON text; a streamed answer is put together."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION, "name": "ann"}]
    ask(knowing.base_url, told, messages, streamed=streamed, tools=TOOLS, max_tokens=50, capture_content=True)
    system = {"type": "text", "content": "Be brief."}
    assert captured(told) == {
        names.SYSTEM_INSTRUCTIONS: [system],
        names.INPUT_MESSAGES: [{"role": "system", "parts": [system]}, {**USER, "name": "ann"}],
        names.TOOL_DEFINITIONS: [
            {"type": "function", "name": "almanac", "description": "Looks up fjords.", "parameters": PARAMETERS}
        ],
        names.OUTPUT_MESSAGES: [
            {"role": "assistant", "parts": [{"type": "text", "content": ANSWER}], "finish_reason": "stop"}
        ],
    }
    assert names.CONTENT_LEFT_OUT not in told.span().attributes


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_tool_calls_reasoning_and_choices(streamed: bool, told: Any) -> None:
    """All choices of an answer, each with its reasoning, its text and its calls of tools, whose arguments are JSON."""
    with Simulator(ttft="1ms", between_tokens="1ms", reasoning_tokens="2") as simulator:
        came = ask(
            simulator.base_url,
            told,
            [{"role": "user", "content": QUESTION}],
            streamed=streamed,
            tools=TOOLS,
            tool_choice="required",
            n=2,
            max_tokens=90,
            capture_content=True,
        )
    expected: dict[int, dict[str, Any]] = {}
    for chunk in came if streamed else [came]:
        for choice in chunk.choices:
            said = (choice.delta if streamed else choice.message).to_dict()
            kept = expected.setdefault(choice.index, {"reasoning": "", "calls": {}, "ended": None})
            kept["reasoning"] += said.get("reasoning_content") or ""
            kept["ended"] = choice.finish_reason or kept["ended"]
            for position, call in enumerate(said.get("tool_calls") or []):
                one = kept["calls"].setdefault(call.get("index", position), {"id": None, "name": None, "text": ""})
                one["id"] = call.get("id") or one["id"]
                one["name"] = call["function"].get("name") or one["name"]
                one["text"] += call["function"].get("arguments") or ""
    assert [kept["ended"] for kept in expected.values()] == ["tool_calls", "tool_calls"]
    assert captured(told)[names.OUTPUT_MESSAGES] == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": kept["reasoning"]},
                *(
                    {"type": "tool_call", "id": call["id"], "name": "almanac", "arguments": json.loads(call["text"])}
                    for call in kept["calls"].values()
                ),
            ],
            "finish_reason": "tool_call",
        }
        for _, kept in sorted(expected.items())
    ]


def test_a_conversation_with_tools(knowing: Simulator, told: Any) -> None:
    """Calls and results of earlier turns, objects of the SDK's among them, are parts of their own kinds."""
    call = {"id": "call_1", "type": "function", "function": {"name": "almanac", "arguments": '{"gazetteer":"Oslo"}'}}
    message = ChatCompletionMessage.model_validate({"role": "assistant", "content": None, "tool_calls": [call]})
    result = {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "deep"}]}
    messages = [{"role": "user", "content": QUESTION}, message, result, {"role": "assistant", "content": "Deep."}]
    messages.append({"role": "user", "content": "Thanks"})
    ask(knowing.base_url, told, messages, streamed=False, tools=TOOLS, max_tokens=5, capture_content=True)
    arguments = {"gazetteer": "Oslo"}
    assert captured(told)[names.INPUT_MESSAGES] == [
        USER,
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "call_1", "name": "almanac", "arguments": arguments}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "deep"}]},
        {"role": "assistant", "parts": [{"type": "text", "content": "Deep."}]},
        {"role": "user", "parts": [{"type": "text", "content": "Thanks"}]},
    ]


def test_images_and_sounds_never(knowing: Simulator, told: Any) -> None:
    """Of what is no text the kind and the size are told, of an address neither password nor query."""
    picture = base64.b64encode(b"\x89PNG" + bytes(range(256)) * 4).decode()
    address = "https://user:pass@pictures.example/a/b.png?signature=sesame#x"
    parts = [
        {"type": "text", "text": f"{QUESTION} ![x](data:image/gif;base64,{picture}) so?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        {"type": "image_url", "image_url": {"url": address}},
        {"type": "input_audio", "input_audio": {"data": picture, "format": "wav"}},
        {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{picture}", "filename": "cv.pdf"}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "hologram", "hologram": picture},
    ]
    body = {"model": "z-ai/glm-5", "messages": [{"role": "user", "content": parts}]}
    with httpx.Client(base_url=knowing.base_url, headers={"authorization": f"Bearer {KEY}"}) as client:
        instrument(client, capture_content=True, **told.providers)
        client.post("/chat/completions", json=body)
    (message,) = captured(told)[names.INPUT_MESSAGES]
    assert message["parts"] == [
        {"type": "text", "content": f"{QUESTION} ![x]([image/gif, 1028 bytes]) so?"},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "size": 1028},
        {"type": "uri", "modality": "image", "uri": "https://pictures.example/a/b.png"},
        {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "size": 1028},
        {"type": "blob", "modality": "document", "mime_type": "application/pdf", "size": 1028},
        {"type": "file", "modality": "document", "file_id": "file-1"},
        {"type": "other"},
    ]
    assert picture[:40] not in told.span().to_json()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_redacted_and_then_shortened(streamed: bool, knowing: Simulator, told: Any) -> None:
    """Each text goes through the hook whole, so that no cut saves half a secret from it, and only then is it cut."""
    seen: list[str] = []

    def redact(text: str) -> str:
        seen.append(text)
        return text.replace("4111-1111-1111-1111", "(card)").replace("zeppelin", "(craft)").replace("fjords", "(place)")

    messages = [
        {"role": "user", "content": "x" * 30 + " 4111-1111-1111-1111 " + "y" * 30},
        {"role": "user", "content": QUESTION},
    ]
    ask(
        knowing.base_url,
        told,
        messages,
        streamed=streamed,
        tools=TOOLS,
        max_tokens=50,
        capture_content=True,
        content_limit=40,
        redact=redact,
    )
    said = captured(told)
    assert said[names.INPUT_MESSAGES][0]["parts"] == [{"type": "text", "content": "x" * 30 + " (card) " + "y" + "…"}]
    assert said[names.OUTPUT_MESSAGES][0]["parts"] == [{"type": "text", "content": "Because (craft) marzipan."}]
    (tool,) = said[names.TOOL_DEFINITIONS]
    assert tool["description"] == "Looks up (place)."
    # What was cut is no JSON any more: the text as it is.
    assert tool["parameters"] == json.dumps(PARAMETERS)[:39] + "…"
    assert {messages[0]["content"], QUESTION, ANSWER, "Looks up fjords.", json.dumps(PARAMETERS)} <= set(seen)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("wrong", ["raises", "None", "raises late"])
def test_a_hook_that_fails_captures_nothing(
    wrong: str, streamed: bool, knowing: Simulator, told: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is captured, the call and the rest of its span are whole, and it is said without repeating anything."""

    def redact(text: str) -> Any:
        if wrong == "raises" or (wrong == "raises late" and "zeppelin" in text):
            raise RuntimeError(text)
        return None if wrong == "None" else text

    _content._warned.clear()
    caplog.set_level(logging.DEBUG, "tensorix_tracing")
    came = ask(
        knowing.base_url,
        told,
        [{"role": "user", "content": QUESTION}],
        streamed=streamed,
        max_tokens=50,
        capture_content=True,
        redact=redact,
    )
    assert said_in(came) == ANSWER
    assert captured(told) == {}
    assert told.span().attributes[names.FINISH_REASONS] == ("stop",)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "quokka" not in caplog.text


def test_only_for_spans_that_are_recorded(knowing: Simulator, tell: Callable[..., Any]) -> None:
    """What is not sampled is not captured, and the hook is not called."""
    told = tell(ALWAYS_OFF)
    seen: list[str] = []
    ask(
        knowing.base_url,
        told,
        [{"role": "user", "content": QUESTION}],
        streamed=True,
        capture_content=True,
        redact=lambda text: seen.append(text) or text,  # type: ignore[func-returns-value]
    )
    assert seen == told.kept.started == []


def test_by_the_environment(knowing: Simulator, told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's variable asks for it too."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    ask(knowing.base_url, told, [{"role": "user", "content": QUESTION}], streamed=False, max_tokens=50)
    assert captured(told)[names.INPUT_MESSAGES] == [USER]


def test_what_came_of_a_stream_that_did_not_end(raw_server: Any, chunk_data: Any, told: Any) -> None:
    """Of an answer that was cut what had come is told, without a reason for its end."""

    def answer(peer: Any) -> bool:
        peer.head()
        peer.events(chunk_data("Because "), chunk_data("zepp"))
        peer.reset()
        return True

    # httpx's own from the SDKs that ride on it.
    with pytest.raises((openai.APIConnectionError, httpx.HTTPError)):
        ask(raw_server(answer).base_url, told, [{"role": "user", "content": "?"}], streamed=True, capture_content=True)
    parts = [{"type": "text", "content": "Because zepp"}]
    assert captured(told)[names.OUTPUT_MESSAGES] == [{"role": "assistant", "parts": parts}]
    assert told.span().attributes[names.ERROR_TYPE] == "cut"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_was_asked_of_a_server_that_is_not_there(streamed: bool, told: Any) -> None:
    """What was asked is told although nothing came back."""
    messages = [{"role": "user", "content": QUESTION}]
    with pytest.raises(openai.APIConnectionError):
        ask("http://127.0.0.1:1/v1", told, messages, streamed=streamed, capture_content=True)
    assert captured(told) == {names.INPUT_MESSAGES: [USER]}


def test_the_caller_may_change_his_messages_meanwhile(raw_server: Any, chunk_data: Any, told: Any) -> None:
    """What was asked is told as it was asked, although the caller's list grows while the answer streams."""

    def answer(peer: Any) -> None:
        peer.head()
        peer.events(chunk_data("a"), chunk_data(None, finish="stop"), b"[DONE]")
        peer.last()

    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    with openai.OpenAI(base_url=raw_server(answer).base_url, api_key=KEY) as client:
        instrument(client, capture_content=True, **told.providers)
        for chunk in client.chat.completions.create(model="m", messages=messages, stream=True):
            messages[0]["content"] = "changed"
            messages.append({"role": "assistant", "content": str(chunk)})
    assert captured(told)[names.INPUT_MESSAGES] == [USER]


def told_by(body: dict[str, Any], *answers: bytes, limit: int = 4096, key: str | None = None) -> dict[str, Any]:
    """What `Content` makes of a request and an answer."""
    content = Content(None, limit, body)
    for answer in answers:
        content.whole(answer)
    found = content.attributes(key)
    return {name: json.loads(value) if isinstance(value, str) else value for name, value in found.items()}


def test_the_whole_is_bounded() -> None:
    """Of a long conversation the end is told, as much as there is room for, and how many messages were left out."""
    messages = [{"role": "user", "content": f"{number} " + "x" * 9_000} for number in range(100)]
    told = told_by({"messages": messages})
    kept = told[names.INPUT_MESSAGES]
    assert len(json.dumps(kept)) < 70_000
    assert [message["parts"][0]["content"].split()[0] for message in kept] == [str(k) for k in range(85, 100)]
    assert told[names.CONTENT_LEFT_OUT] == 85
    assert all(len(message["parts"][0]["content"]) == 4096 for message in kept)
    one = {"messages": [{"role": "user", "content": [{"type": "text", "text": "y" * 5_000}] * 50}]}
    assert told_by(one) == {names.CONTENT_LEFT_OUT: 1}


def test_an_answer_without_end_takes_no_memory() -> None:
    """Of an answer of more than 4 MiB nothing is kept to the end, nor told."""
    content = Content(None, 100, {"messages": []})
    data = json.dumps({"choices": [{"index": 0, "delta": {"content": "z" * 100_000}}]}).encode()
    tracemalloc.start()
    try:
        for _ in range(400):
            content.event(data)
        assert tracemalloc.get_traced_memory()[0] < 10 * 2**20
    finally:
        tracemalloc.stop()
    assert content.attributes() == {names.CONTENT_LEFT_OUT: 1}


def test_what_no_exporter_takes_is_replaced() -> None:
    """Half a surrogate pair, NaN as an argument and a number without end become text that can be sent."""
    huge = "9" * 5_000
    calls = [
        {"function": {"name": "f", "arguments": arguments}}
        for arguments in ("NaN", huge, '{"a":', "[" * 5_000, '"\ud800"')
    ]
    told = Content(None, 6_000, {"messages": [{"role": "assistant", "content": "a\ud800b", "tool_calls": calls}]})
    text = told.attributes()[names.INPUT_MESSAGES]
    assert isinstance(text, str)
    text.encode()
    (message,) = json.loads(text)
    assert message["parts"][0]["content"] == "a?b"
    assert [part["arguments"] for part in message["parts"][1:]] == ["NaN", huge, '{"a":', "[" * 5_000, "?"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": None, "tools": 5, "functions": "x"},
        {"messages": [None, 5, "text", {}, {"role": 7, "content": {"a": 1}}, {"content": [None, {"type": 3}, "x"]}]},
        {"messages": [{"role": "user", "tool_calls": [None, {"function": 3}], "function_call": "f", "name": 5}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": url}]} for url in (5, "x", "http://[")
            ]
        },
        {"tools": [None, {}, {"type": 5, "function": "f"}, {"function": {"name": 5, "parameters": {1: {2}}}}]},
    ],
)
def test_whatever_is_asked(body: dict[str, Any]) -> None:
    """Requests of any shape are told as far as they can be; nothing is raised and nothing refused."""
    content = Content(None, 100, body)
    for answer in (
        b"",
        b"5",
        b'{"choices":5}',
        b'{"choices":[5,{"delta":5},{"delta":{"tool_calls":[5]},"index":"a"}]}',
    ):
        content.event(answer)
        content.whole(answer)
    for name, value in content.attributes().items():
        assert isinstance(value, int) or isinstance(json.loads(value), list), name
    assert not content._failed


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_the_key_is_never_captured(streamed: bool, told: Any) -> None:
    """Where somebody writes the key into a message, or a model repeats it, it is masked there too."""
    with Simulator(ttft="1ms", between_tokens="1ms") as simulator:
        came = ask(
            simulator.base_url,
            told,
            [{"role": "user", "content": f"Reply with exactly: {KEY}"}],
            streamed=streamed,
            max_tokens=100,
            capture_content=True,
        )
    assert said_in(came) == KEY
    assert KEY not in told.span().to_json()
    assert captured(told)[names.OUTPUT_MESSAGES][0]["parts"] == [{"type": "text", "content": "[redacted]"}]


def test_the_old_form_of_functions() -> None:
    """`functions` and `function_call` are told as tools and their calls."""
    body = {
        "functions": [{"name": "f", "parameters": {"type": "object"}}],
        "messages": [
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "done"},
        ],
    }
    answer = {
        "choices": [{"message": {"function_call": {"name": "f", "arguments": "{}"}}, "finish_reason": "function_call"}]
    }
    told = told_by(body, json.dumps(answer).encode())
    call: dict[str, Any] = {"type": "tool_call", "id": None, "name": "f", "arguments": {}}
    assert told == {
        names.TOOL_DEFINITIONS: [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
        names.INPUT_MESSAGES: [
            {"role": "assistant", "parts": [call]},
            {"role": "function", "parts": [{"type": "tool_call_response", "id": "f", "response": "done"}]},
        ],
        names.OUTPUT_MESSAGES: [{"role": "assistant", "parts": [call], "finish_reason": "tool_call"}],
    }
