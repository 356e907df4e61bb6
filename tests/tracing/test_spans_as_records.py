"""Spans of real calls as a collector writes them, read back as records, and held against what the server did."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped,unused-ignore]
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tensorix_records import RequestRecord, Run
from tensorix_records._schema import records_of_table
from tensorix_records.traces import write_trace_run
from tensorix_reports import latency_report, rate_limit_report
from tensorix_simulator import Simulator
from tensorix_tracing import instrument, uninstrument

_MODEL = "z-ai/glm-5"
_ASKED: dict[str, Any] = {"model": _MODEL, "messages": [{"role": "user", "content": "Say something."}]}
_USAGE = {"include_usage": True}


@dataclass(frozen=True)
class Traced:
    """What was told of some calls, and what the server says of them."""

    spans: list[ReadableSpan]
    arrivals: dict[str, list[dict[str, Any]]]
    """By trace, in their order."""
    ends: dict[int, dict[str, Any]]
    """By their numbers."""
    closed: str
    cut: str
    plain: set[str]
    """The traces of three calls apart: closed early, cut, and those not streamed."""


def _stream(client: openai.OpenAI) -> None:
    with client.chat.completions.create(**_ASKED, stream=True, stream_options=_USAGE, max_tokens=12) as stream:  # type: ignore[call-overload]
        for _ in stream:
            pass


@pytest.fixture(scope="module")
def traced() -> Iterator[Traced]:
    """72 calls, most of them streamed, over a limit of 20 a window of a second; the SDK tries again."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    quick: dict[str, Any] = {"ttft": "lognormal(40ms, 0.5)", "between_tokens": "3ms", "reply_tokens": "20"}
    with (
        Simulator(rpm=20, window_s=1, retry_after="honest", **quick) as simulator,
        openai.OpenAI(base_url=simulator.base_url, api_key="sk-of-this-test", max_retries=5, timeout=30) as client,
    ):
        instrument(client, tracer_provider=provider, key_alias="test-key")

        def told() -> set[str]:
            return {f"{span.context.trace_id:032x}" for span in kept.get_finished_spans() if span.context}

        for _ in range(10):
            client.chat.completions.create(**_ASKED, max_tokens=3)
        plain = told()
        with client.chat.completions.create(**_ASKED, stream=True, max_tokens=12) as stream:
            next(iter(stream))
        (closed,) = told() - plain
        simulator.change(faults=["cut after 3 chunks"])
        with pytest.raises((openai.APIError, httpx2.RemoteProtocolError)):
            _stream(client)
        simulator.change(faults=[])
        (cut,) = told() - plain - {closed}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: _stream(client), range(60)))
        uninstrument(client)
        arrivals: dict[str, list[dict[str, Any]]] = {}
        for line in simulator.truth("arrival"):
            arrivals.setdefault(line["traceparent"].split("-")[1], []).append(line)
        ends = {line["n"]: line for line in simulator.truth("end")}
    yield Traced(list(kept.get_finished_spans()), arrivals, ends, closed, cut, plain)
    provider.shutdown()


def _as_the_collector(spans: list[ReadableSpan]) -> dict[str, Any]:
    """An export in the JSON of OTLP's specification: protobuf's, but for ids in hex and enumerations as numbers."""
    export: dict[str, Any] = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    for resource in export["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name in {"traceId", "spanId", "parentSpanId"} & span.keys():
                    span[name] = base64.b64decode(span[name]).hex()
    return export


def _lines(exports: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(export).encode() + b"\n" for export in exports)


@pytest.fixture(scope="module")
def file(traced: Traced, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spans as a collector writes them, an export of 50 a line."""
    path = tmp_path_factory.mktemp("spans") / "traces.jsonl"
    spans = traced.spans
    path.write_bytes(_lines([_as_the_collector(spans[at : at + 50]) for at in range(0, len(spans), 50)]))
    return path


@pytest.fixture(scope="module")
def run(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that was made of them."""
    return write_trace_run([file], tmp_path_factory.mktemp("run"), limits={"requests": 20, "window_s": 1.0}).run


def _records(run: Run) -> list[RequestRecord]:
    return sorted(records_of_table(run.records()), key=lambda record: (record.start_unix_ns, record.record_id))


def test_each_request_that_arrived_is_a_record(traced: Traced, run: Run) -> None:
    """Every attempt has its record, in order, with the status that the server sent and what it told of the limit."""
    found: dict[str, list[RequestRecord]] = {}
    for record in _records(run):
        found.setdefault(str(record.trace_id), []).append(record)
    assert found.keys() == traced.arrivals.keys()
    retried = 0
    for trace, records in found.items():
        arrived = traced.arrivals[trace]
        assert [record.status for record in records] == [line["status"] for line in arrived]
        assert [record.attempt for record in records] == list(range(1, len(arrived) + 1))
        assert len({record.logical_id for record in records}) == 1
        for record, line in zip(records, arrived, strict=True):
            assert (record.source, record.endpoint, record.key_alias) == ("trace", "/chat/completions", "test-key")
            assert record.model_requested == _MODEL
            assert record.stream is line.get("stream", trace not in traced.plain)
            assert abs(record.start_unix_ns - line["arrival_unix_ns"]) < 5e9
            if line["status"] == 429:
                assert (record.outcome, record.error_kind) == ("throttled", "rate_limited")
                assert record.retry_after_ns is not None
                assert 0 < record.retry_after_ns <= 10**9
        last, line = records[-1], arrived[-1]
        # The head of a whole body is sent when its tokens are settled.
        at_end = traced.ends[line["n"]] if trace in traced.plain else line
        assert last.remaining_requests == at_end["remaining_requests"]
        assert last.remaining_tokens == at_end["remaining_tokens"]
        retried += len(records) > 1
    assert retried


def test_what_came_back_is_what_was_sent(traced: Traced, run: Run) -> None:
    """Tokens and ends are those of the server; the first and the last token came when they were sent, or soon after."""
    off_ns = []
    for record in _records(run):
        if record.status != 200:
            continue
        end = traced.ends[traced.arrivals[str(record.trace_id)][-1]["n"]]
        if record.trace_id == traced.closed:
            assert (record.outcome, record.stream_outcome) == ("cancelled", "closed_early")
        elif record.trace_id == traced.cut:
            assert (record.outcome, record.stream_outcome, record.error_kind) == ("failed", "cut", "cut")
            assert record.error_phase == "stream"
        else:
            assert (record.outcome, record.finish_reason) == ("success", "length")
            tokens = (record.prompt_tokens, record.completion_tokens, record.token_source)
            assert tokens == (end["prompt_tokens"], end["completion_tokens"], "usage")
        if record.stream is True and record.outcome == "success":
            sent = end["chunk_sent_ns"]
            assert record.first_token_at_ns is not None
            assert record.last_token_at_ns is not None
            assert record.first_chunk_at_ns is not None
            assert record.end_at_ns is not None
            assert record.first_chunk_at_ns <= record.first_token_at_ns < record.last_token_at_ns <= record.end_at_ns
            between = record.last_token_at_ns - record.first_token_at_ns
            off_ns.append(abs(between - (sent[-1] - sent[0])))
    assert len(off_ns) == 60
    assert np.quantile(off_ns, 0.2) < 50e6


def test_percentiles_of_the_report_are_those_of_the_truth(traced: Traced, run: Run) -> None:
    """TTFT in the report is the server's own, later by what the way to the service and the client library took."""
    true_ms, seen_ms = [], []
    for record in _records(run):
        if record.outcome == "success" and record.stream is True:
            line = traced.arrivals[str(record.trace_id)][-1]
            true_ms.append((traced.ends[line["n"]]["chunk_sent_ns"][0] - line["arrival_ns"]) / 1e6)
            seen_ms.append((record.first_token_at_ns or 0) / 1e6)
    late_ms = np.array(seen_ms) - np.array(true_ms)
    # Most of them; a busy machine keeps some waiting.
    assert np.quantile(np.abs(late_ms), 0.2) < 50
    (row,) = [row for row in latency_report(run).rows if row.quantity == "TTFT"]
    assert row.count == 60
    for percent in (50.0, 90.0):
        reported, true = row.figures[percent].value, float(np.percentile(true_ms, percent))
        assert reported is not None
        assert late_ms.min() <= reported - true <= late_ms.max()


def test_the_rate_limit_report_tells_what_the_server_did(traced: Traced, run: Run, file: Path, tmp_path: Path) -> None:
    """Refusals and successes are those that the server counted, and so is what passed a window."""
    lines = [line for lines in traced.arrivals.values() for line in lines]
    refused = sum(line["status"] == 429 for line in lines)
    report = rate_limit_report(run)
    assert report.totals == {"sent": len(lines), "success": 70, "throttled": refused, "failed": 1, "cancelled": 1}
    assert refused > 0
    assert report.retry_after.refusals == report.retry_after.said == refused
    least = min(line["remaining_requests"] for line in lines if line["status"] == 200)
    assert report.remaining["remaining_requests"].min() == least == 0
    assert (report.limit_requests, report.sources["requests"]) == (20, "told")
    told = {"requests": 20, "window_s": 1.0}
    whole = rate_limit_report(write_trace_run([file], tmp_path / "whole", limits=told, complete=True).run)
    (key,) = whole.keys
    assert key.key_alias == "test-key"
    assert max(window.passed for window in key.fit.windows) == 20


def test_every_spelling_of_the_json_gives_the_same_records(traced: Traced, run: Run, tmp_path: Path) -> None:
    """Protobuf's own JSON, its names as in the schema, one value over many lines, gzip, doubles: the same records."""
    half = len(traced.spans) // 2
    first, second = encode_spans(traced.spans[:half]), encode_spans(traced.spans[half:])
    files = {
        # A call's attempts may come in another file than the call, and after it.
        "base64.jsonl": _lines([MessageToDict(second), MessageToDict(first)]),
        "snake.jsonl": _lines([MessageToDict(part, preserving_proto_field_name=True) for part in (first, second)]),
        "pretty.json": json.dumps(_as_the_collector(traced.spans)["resourceSpans"], indent=2).encode(),
        "twice.jsonl": _lines([_as_the_collector(traced.spans)] * 2),
    }
    files["small.jsonl.gz"] = gzip.compress(files["snake.jsonl"])
    expected = _records(run)
    for number, (name, data) in enumerate(files.items()):
        (tmp_path / name).write_bytes(data)
        made = write_trace_run([tmp_path / name], tmp_path / f"run-{number}")
        assert [replace(record, run_id=expected[0].run_id) for record in _records(made.run)] == expected, name
        assert (made.seen.lines_skipped, made.seen.unusable) == (0, 0)
        assert made.seen.doubles == (len(traced.spans) if name.startswith("twice") else 0)
