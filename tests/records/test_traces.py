"""Files of spans as records: a collector's file written by hand, what may be missing, and what is no span at all."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tensorix_api.errors import RunFolderError, SettingsError
from tensorix_records import RequestRecord
from tensorix_records._schema import records_of_table
from tensorix_records.traces import TraceRun, write_trace_run
from tensorix_records.traces._documents import documents
from tensorix_records.traces._join import Join
from tensorix_records.traces._seen import Seen
from tensorix_records.traces._span import is_otlp, spans_of

_FILE = Path(__file__).parent / "traces" / "collector.jsonl"
_START = 1_790_000_000_000_000_000
Read = Callable[..., list[RequestRecord]]


def _records(made: TraceRun) -> list[RequestRecord]:
    return sorted(records_of_table(made.run.records()), key=lambda record: record.start_unix_ns)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TraceRun:
    """The run of the collector's file."""
    return write_trace_run([_FILE], tmp_path_factory.mktemp("made") / "run")


def _export(*spans: dict[str, Any], scope: str = "tensorix_tracing") -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"scope": {"name": scope}, "spans": list(spans)}]}]}


def _a_span(number: int = 1, /, **attributes: Any) -> dict[str, Any]:
    """A call that succeeded; attributes as plain values, which some writers have too."""
    plain = {"gen_ai.operation.name": "chat", "tensorix.attempts": 1, "http.response.status_code": 200}
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat m",
        "kind": 3,
        "startTimeUnixNano": str(_START),
        "endTimeUnixNano": str(_START + 10**9),
        "attributes": plain | attributes,
    }


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The records of exports, one a line."""

    def reading(*exports: Any) -> list[RequestRecord]:
        path = tmp_path / "spans.jsonl"
        path.write_text("".join(json.dumps(export) + "\n" for export in exports))
        seen = Seen()
        join = Join("run", seen)
        spans = [span for value in documents(path, seen) for span in spans_of(value)]
        return [record for span in spans for record in join.add(span)] + list(join.rest())

    return reading


def test_a_streamed_call_is_a_record_with_all_that_its_span_says(made: TraceRun) -> None:
    """Every column that a span can fill, by hand."""
    record = _records(made)[0]
    told = {name for name in RequestRecord.__dataclass_fields__ if getattr(record, name) is not None}
    assert {name: getattr(record, name) for name in told - {"run_id"}} == {
        "record_id": f"{0xA0:032x}-{0xA1:016x}",
        "request_id": "",
        "logical_id": f"{0xA0:032x}-{0xA1:016x}",
        "attempt": 1,
        "source": "trace",
        "process_id": "assistant/web-1:4711",
        "host": "web-1",
        "trace_id": f"{0xA0:032x}",
        "span_id": f"{0xA1:016x}",
        "key_alias": "assistant",
        "endpoint": "/chat/completions",
        "method": "POST",
        "model_requested": "z-ai/glm-5",
        "stream": True,
        "max_tokens": 200,
        "start_unix_ns": _START,
        "first_chunk_at_ns": 250_000_000,
        "first_token_at_ns": 300_000_000,
        "first_output_at_ns": 700_000_000,
        "last_token_at_ns": 1_400_000_000,
        "end_at_ns": 1_500_000_000,
        "stamp_source": "user",
        "outcome": "success",
        "stream_outcome": "completed",
        "status": 200,
        "response_id": "chatcmpl-1",
        "model_served": "z-ai/glm-5",
        "finish_reason": "stop",
        "prompt_tokens": 20,
        "completion_tokens": 101,
        "reasoning_tokens": 40,
        "cached_tokens": 8,
        "token_source": "usage",
        "limit_requests": 60,
        "remaining_requests": 59,
        "remaining_tokens": 1_999_879,
    }


def test_attempts_are_records_of_one_logical_call(made: TraceRun) -> None:
    """A call that took three, their spans in other lines: three records, the last with the stream, from its sending."""
    records = [record for record in _records(made) if record.logical_id == f"{0xC1:032x}-{0xC1:016x}"]
    first, second, last = records
    assert [(record.attempt, record.status, record.outcome, record.error_kind) for record in records] == [
        (1, 429, "throttled", "rate_limited"),
        (2, 500, "failed", "server_error"),
        (3, 200, "cancelled", "cancelled"),
    ]
    assert {(record.model_requested, record.stream, record.key_alias) for record in records} == {
        ("z-ai/glm-5", True, "assistant")
    }
    assert (first.retry_after_ns, second.retry_after_ns) == (1_500_000_000, None)
    assert (first.headers_at_ns, first.end_at_ns) == (20_000_000, 20_000_000)
    assert (last.start_unix_ns, last.stream_outcome) == (_START + 7_000_000_000, "closed_early")
    # 4.2 s and 5 s after the call had begun, which was 4 s before this attempt.
    assert (last.first_token_at_ns, last.end_at_ns) == (200_000_000, 1_000_000_000)


def test_other_instrumentations_tell_less(made: TraceRun) -> None:
    """A chat span without our attributes is a record with nulls where it is silent; a 429 is found by its exception."""
    whole, refused = _records(made)[-2:]
    assert (whole.model_requested, whole.prompt_tokens, whole.completion_tokens) == ("gpt-x", 5, 7)
    assert (whole.outcome, whole.status, whole.stream, whole.first_token_at_ns) == ("success", 200, None, None)
    assert whole.process_id == "nightly/job-7"
    assert (refused.outcome, refused.status, refused.error_kind) == ("throttled", 429, "rate_limited")
    assert refused.error_message == "Error code: 429 - key [redacted] is over its limit"


def test_a_list_of_models_that_was_refused(made: TraceRun) -> None:
    """`models.list` has no streams, and 401 is a failure with the server's code."""
    (record,) = [record for record in _records(made) if record.endpoint == "/models"]
    assert (record.method, record.stream, record.outcome, record.error_kind) == (
        "GET",
        None,
        "failed",
        "authentication",
    )
    assert record.error_code == "invalid_api_key"


def test_what_is_no_record_is_counted(made: TraceRun) -> None:
    """Other spans, metrics in between and the cut last line are told in the manifest, beside services and limits."""
    spans = made.run.manifest["spans"]
    assert spans == {
        "spans": 11,
        "records": 8,
        "lines_skipped": 1,
        "other_spans": 2,
        "services": {"assistant": 6, "nightly": 2},
        "servers": {"api.tensorix.ai": 7},
        "sampled": {"0.25": 2},
    }
    manifest = made.run.manifest
    assert manifest["limits"] == {"window_s": 60.0, "requests": 60, "tokens": 2_000_000, "told": []}
    assert (manifest["kind"], manifest["files"]) == ("traces", ["collector.jsonl"])
    assert manifest["started_unix_ns"] == _START
    assert manifest["ended_unix_ns"] == _START + 11_300_000_000
    # A prompt that somebody had captured goes nowhere.
    assert all(b"secret prompt" not in path.read_bytes() for path in made.run.path.iterdir())


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"tensorix.stream.outcome": "completed"}, ("success", "completed", None)),
        ({"tensorix.stream.outcome": "closed_early"}, ("cancelled", "closed_early", "cancelled")),
        ({"tensorix.stream.outcome": "abandoned"}, ("cancelled", "abandoned", "cancelled")),
        ({"tensorix.stream.outcome": "cancelled"}, ("cancelled", "cancelled", "cancelled")),
        ({"error.type": "cancelled", "http.response.status_code": None}, ("cancelled", None, "cancelled")),
        ({"tensorix.stream.outcome": "cut", "error.type": "cut"}, ("failed", "cut", "cut")),
        (
            {"tensorix.stream.outcome": "error_event", "error.type": "error_event"},
            ("failed", "error_event", "error_event"),
        ),
        ({"tensorix.stream.outcome": "malformed", "error.type": "malformed"}, ("failed", "malformed", "malformed")),
        ({"tensorix.stream.outcome": "timeout", "error.type": "timeout"}, ("failed", "timeout", "timeout")),
        ({"error.type": "connection_error", "http.response.status_code": None}, ("failed", None, "connection_failed")),
        ({"error.type": "tls_error", "http.response.status_code": None}, ("failed", None, "tls_failed")),
        ({"error.type": "_OTHER"}, ("failed", None, None)),
        ({"error.type": "402", "http.response.status_code": 402}, ("failed", None, "payment")),
        ({"error.type": "openai.APITimeoutError", "http.response.status_code": None}, ("failed", None, "timeout")),
        ({"tensorix.stream.outcome": ["no", "text"], "error.type": 7}, ("success", None, None)),
    ],
)
def test_every_end_has_its_outcome(
    read: Read, attributes: dict[str, Any], expected: tuple[str, str | None, str | None]
) -> None:
    """What ended from this end is cancelled, what the server did wrong failed, the rest a success."""
    (record,) = read(_export(_a_span(**attributes)))
    assert (record.outcome, record.stream_outcome, record.error_kind) == expected


@pytest.mark.parametrize("missing", ["call", "last", "first"])
def test_attempts_that_lack_a_part(read: Read, missing: str) -> None:
    """Without the call's span what failed is known; without an attempt's the call is told with the times it has."""
    call = _a_span(1, **{"tensorix.attempts": 2, "tensorix.time_to_first_token": 0.9})
    first, last = (
        _a_span(2, **{"http.response.status_code": 429, "error.type": "429", "tensorix.attempts": None}),
        _a_span(3, **{"http.request.resend_count": 1, "tensorix.attempts": None}),
    )
    for attempt in (first, last):
        attempt["attributes"]["gen_ai.operation.name"] = None
        attempt |= {"name": "chat attempt", "traceId": call["traceId"], "parentSpanId": call["spanId"]}
    last["startTimeUnixNano"] = str(_START + 500_000_000)
    spans = {"call": call, "first": first, "last": last}
    del spans[missing]
    found = [(record.attempt, record.status, record.first_token_at_ns) for record in read(_export(*spans.values()))]
    assert (
        found
        == {
            "call": [(1, 429, None)],
            "last": [(1, 429, None), (2, 200, 900_000_000)],
            "first": [(2, 200, 400_000_000)],
        }[missing]
    )


def test_a_model_that_is_named_like_an_attempt(read: Read) -> None:
    """Its calls are calls."""
    (record,) = read(_export(_a_span(1, **{"gen_ai.request.model": "an attempt"}) | {"name": "chat an attempt"}))
    assert (record.model_requested, record.logical_id) == ("an attempt", record.record_id)


def test_what_waits_is_bounded(tmp_path: Path) -> None:
    """Calls whose attempts never come wait in a bounded number, and none is lost."""
    seen = Seen()
    join = Join("run", seen, most=5, remembered=10)
    spans = [_a_span(number, **{"tensorix.attempts": 2}) for number in range(1, 21)]
    told = 0
    for number, span in enumerate(spans_of(_export(*spans)), 1):
        told += len(list(join.add(span)))
        assert number - told <= 5
    assert told + len(list(join.rest())) == 20 == seen.without_attempts


def test_values_that_cannot_be_true_are_left_out(read: Read) -> None:
    """A number of the wrong kind, sign or size costs its column only."""
    wrong: dict[str, Any] = {
        "tensorix.time_to_first_token": 1e300,
        "tensorix.time_to_first_output": float("nan"),
        "gen_ai.response.time_to_first_chunk": -1,
        "gen_ai.usage.output_tokens": 2**60,
        "gen_ai.usage.input_tokens": True,
        "tensorix.ratelimit.remaining_requests": "many",
        "gen_ai.response.finish_reasons": {"arrayValue": {"values": [{"arrayValue": {"values": [{}]}}]}},
        "http.response.status_code": 99_999,
        "gen_ai.request.model": "m" * 100_000,
        "gen_ai.response.id": "half \ud83d a pair",
        "tensorix.key.alias": "sk-0123456789abcdef",
    }
    (record,) = read(_export(_a_span(1, **wrong)))
    assert (record.first_token_at_ns, record.first_output_at_ns, record.first_chunk_at_ns) == (None, None, None)
    assert (record.completion_tokens, record.prompt_tokens, record.remaining_requests) == (None, None, None)
    assert (record.status, record.finish_reason, record.outcome) == (200, None, "success")
    assert len(record.model_requested or "") == 200
    assert (record.response_id, record.key_alias) == ("half ? a pair", "[redacted]")


@pytest.mark.parametrize(
    "change",
    [
        {"traceId": ""},
        {"traceId": "0" * 32},
        {"traceId": 7},
        {"spanId": "xyz"},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": str(2**70)},
        {"endTimeUnixNano": "1"},
        {"endTimeUnixNano": None},
    ],
)
def test_a_span_without_ids_or_times_is_counted_only(tmp_path: Path, change: dict[str, Any]) -> None:
    """It is no record, and its neighbour is."""
    path = tmp_path / "spans.jsonl"
    path.write_text(json.dumps(_export(_a_span(1) | change, _a_span(2))))
    made = write_trace_run([path], tmp_path / "run")
    assert (made.seen.records, made.seen.unusable) == (1, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n\n",
        b"no JSON at all\n",
        b'{"level":"info","message":"a log"}\n' * 3,
        b"[" * 100_000,
        b'{"resourceSpans": "none"}\n',
        bytes(range(256)) * 50,
        gzip.compress(b"text\n", mtime=0),
        b"\x1f\x8b" + b"\0" * 50,
        b"\x28\xb5\x2f\xfd" + b"zstd" * 20,
        b"1\n2\n3\n",
        b"{" + b'"a":{' * 5000,
    ],
)
def test_a_file_that_is_no_otlp_is_one_line(tmp_path: Path, data: bytes) -> None:
    """It is refused by name, and no run is left."""
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match=r"file' holds no OTLP JSON: give files as") as caught:
        write_trace_run([_FILE, path], tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_files_and_places_that_cannot_be_used(tmp_path: Path) -> None:
    """A file that is missing, one without a call in it, and a place that is taken are said in one line each."""
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps(_export({**_a_span(), "name": "GET /", "attributes": []}, scope="web")))
    with pytest.raises(
        SettingsError, match=r"no span of a call to a chat API in other.jsonl: 1 spans are of other work"
    ):
        write_trace_run([other], tmp_path / "run")
    with pytest.raises(SettingsError, match=r"nowhere' cannot be read \(No such file or directory\)"):
        write_trace_run([tmp_path / "nowhere"], tmp_path / "run")
    with pytest.raises(RunFolderError, match="is not empty"):
        write_trace_run([_FILE], tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_cut_gzip_file_is_read_to_its_cut(tmp_path: Path) -> None:
    """What came before the cut counts, and the cut is told."""
    rng = random.Random(3)
    lines = [json.dumps(_export(_a_span(rng.getrandbits(60)))) for _ in range(2_000)]
    packed = gzip.compress("\n".join(lines).encode())
    path = tmp_path / "spans.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    made = write_trace_run([path], tmp_path / "run")
    assert 500 < made.seen.records < 1_500
    assert made.seen.files_cut == 1


def test_a_line_that_is_too_long_is_not_held(tmp_path: Path) -> None:
    """It is passed over in pieces, and the next one is read."""
    path = tmp_path / "spans.jsonl"
    path.write_bytes(b'{"resourceSpans":[]}\n' + b'{"a": "' + b"x" * 50_000 + b'"}\n' + b'{"resourceSpans":[]}')
    seen = Seen()
    assert list(documents(path, seen, longest=10_000)) == [{"resourceSpans": []}] * 2
    assert seen.lines_skipped == 1


def test_garbage_never_raises(tmp_path: Path) -> None:
    """Bytes that were changed, dropped or doubled, and values in place of others, give fewer records and no error."""
    rng = random.Random(11)
    good = _FILE.read_bytes()
    odd: list[Any] = [None, [], {}, "", "x", -1, 1e400, True, [[]], {"values": 7}, {"stringValue": []}, 2**80]

    def shaken(value: Any) -> Any:
        if rng.random() < 0.02:
            return rng.choice(odd)
        if isinstance(value, dict):
            return {name: shaken(inner) for name, inner in value.items()}
        return [shaken(inner) for inner in value] if isinstance(value, list) else value

    path = tmp_path / "garbage"
    records = 0
    for trial in range(300):
        if trial % 2:
            data = bytearray(good)
            for _ in range(rng.randrange(1, 30)):
                at = rng.randrange(len(data))
                data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        else:
            values = [shaken(json.loads(line)) for line in good.splitlines()[:-1]]
            data = bytearray("\n".join(json.dumps(value) for value in values).encode())
        path.write_bytes(data)
        seen = Seen()
        join = Join("run", seen)
        for value in documents(path, seen):
            for span in spans_of(value) if is_otlp(value) else ():
                records += len(list(join.add(span)))
        records += len(list(join.rest()))
    assert 300 < records < 300 * 8
