"""The event reader: what the standard says of lines and events, whatever pieces the bytes come in."""

from __future__ import annotations

import time

import httpx
import httpx_sse
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensorix_api.sse import Event, EventTooLargeError, SSEReader

BOM = b"\xef\xbb\xbf"
QUIETLY = settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])


def read(*pieces: bytes) -> list[Event]:
    reader = SSEReader()
    return [event for piece in pieces for event in reader.feed(piece)]


@pytest.mark.parametrize(
    ("text", "events"),
    [
        pytest.param(b"data: a\n\n", [b"a"], id="one event"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], id="CRLF"),
        pytest.param(b"data: a\r\rdata: b\r\r", [b"a", b"b"], id="CR"),
        pytest.param(b"data: a\r\ndata: b\r\n\r\n", [b"a\nb"], id="CRLF is one line end, however it is split"),
        pytest.param(b"data: a\n\r\ndata: b\r\n\rdata: c\n\n", [b"a", b"b", b"c"], id="line ends in a mixture"),
        pytest.param(b"data:a\n\n", [b"a"], id="no space after the colon"),
        pytest.param(b"data:  a \n\n", [b" a "], id="one space belongs to the format, the others to the data"),
        pytest.param(b"data: a\ndata: b\ndata\ndata:c\n\n", [b"a\nb\n\nc"], id="data lines join with LF"),
        pytest.param(b"data\n\n", [b""], id="a data line without a value is an event with empty data"),
        pytest.param(b"\n\n\n\ndata: a\n\n\n\n\n", [b"a"], id="blank lines alone are no events"),
        pytest.param(b": ping\n\ndata: a\n: ping\ndata: b\n\n", [b"a\nb"], id="comments anywhere"),
        pytest.param(b"id: 7\nretry: 9\ndata: a\nwhat: ever\nnothing\n\n", [b"a"], id="other fields are left alone"),
        pytest.param(b"Data: a\n data: b\n\ndata: c\n\n", [b"c"], id="names are exact"),
        pytest.param(BOM + b"data: a\n\n", [b"a"], id="a byte order mark at the start"),
        pytest.param(BOM + BOM + b"data: a\n\n", [], id="only one byte order mark"),
        pytest.param(b"data: a\n\n" + BOM + b"data: b\n\n", [b"a"], id="no byte order mark later"),
        pytest.param(b"\xef\xbbdata: a\n\ndata: b\n\n", [b"b"], id="half a byte order mark is none"),
        pytest.param(
            "data: \u2028\x85\x0b\x0c\x1c\n\n".encode(), ["\u2028\x85\x0b\x0c\x1c".encode()], id="no other line ends"
        ),
        pytest.param(b"data: \xff\xfe\x00\n\n", [b"\xff\xfe\x00"], id="data stays undecoded"),
        pytest.param(b"data: a\n\ndata: b\n", [b"a"], id="an event without its blank line is not whole"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_events(text: bytes, events: list[bytes]) -> None:
    """The same events whether the bytes come at once, one by one, in twos, or with empty reads between them."""
    assert [event.data for event in read(text)] == events
    assert [event.data for event in read(*(text[at : at + 1] for at in range(len(text))))] == events
    assert [event.data for event in read(*(text[at : at + 2] for at in range(0, len(text), 2)))] == events
    assert [
        event.data for event in read(*(part for at in range(len(text)) for part in (text[at : at + 1], b"")))
    ] == events


def test_an_event_has_the_type_of_its_own_lines() -> None:
    """The last `event` line counts, for this event only; without data there is no event and the type is forgotten."""
    text = b"event: a\nevent: error\ndata: 1\n\ndata: 2\n\nevent: lost\n\ndata: 3\n\n"
    assert read(text) == [Event(b"1", b"error"), Event(b"2"), Event(b"3")]


def test_comments_are_counted() -> None:
    """Keep-alives are seen though they are no events."""
    reader = SSEReader()
    assert reader.feed(b": ping\n\n:\n:ping") == []
    assert reader.comments == 2
    reader.feed(b"\n")
    assert reader.comments == 3


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (b"data: a\n\n", None),
        (b"data: a\n\ndata: b", b"b"),
        (b"data: a\n\ndata: b\n", b"b"),
        (b"data: b\nda", b"b"),
        (b"data: b\ndata: c", b"b\nc"),
        (b"data: b\r", b"b"),
        (b": ping", None),
        (b"\xef\xbb", None),
        (b"event: error\n", None),
    ],
)
def test_close_gives_what_was_left_unfinished(text: bytes, rest: bytes | None) -> None:
    """Once: the event so far, or nothing where no data had come."""
    reader = SSEReader()
    reader.feed(text)
    event = reader.close()
    assert (event.data if event else None) == rest
    assert reader.close() is None


@pytest.mark.parametrize("piece", [b"x" * 50, b"data:\n", b"data: xxxxxxxx\n", b"data: x"])
def test_an_event_that_does_not_end_is_bounded(piece: bytes) -> None:
    """In one line or in many, with text in them or without: past the bound the reader says so."""
    reader = SSEReader(max_bytes=1_000)

    def feed_on() -> None:
        for _ in range(1_100):
            reader.feed(piece)

    with pytest.raises(EventTooLargeError, match="1000 bytes"):
        feed_on()


def test_the_bound_is_for_an_event_and_not_for_the_stream() -> None:
    """Whole events make room for the next."""
    reader = SSEReader(max_bytes=100)
    for _ in range(100):
        assert len(reader.feed(b": ping\ndata: " + b"x" * 40 + b"\ndata: y\n") + reader.feed(b"\n")) == 1


def test_a_long_event_in_single_bytes_takes_no_longer_than_its_bytes() -> None:
    """A megabyte byte by byte is not copied a million times."""
    reader = SSEReader()
    began = time.process_time()
    for _ in range(2**20):
        reader.feed(b"x")
    assert time.process_time() - began < 20


LINES = [b"data: ", b"data:", b"data", b"event: error", b":", b"id: 1", b"a", b"{", b" ", "é".encode(), BOM]
FRAGMENTS = st.sampled_from([*LINES, b"\n", b"\r", b"\r\n", b"\n\n", b"data: a\n\n"])


@QUIETLY
@given(st.lists(FRAGMENTS, max_size=30), st.data())
def test_any_split_gives_the_same_events_as_an_independent_reader(fragments: list[bytes], data: st.DataObject) -> None:
    """Split anywhere, also within a character or between CR and LF, the events are those that httpx-sse reads."""
    text = b"".join(fragments)
    at = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]
    events = read(*pieces)
    assert events == read(text)
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=text.removeprefix(BOM))
    theirs = list(httpx_sse.EventSource(response).iter_sse())
    # It gives events without data too, once an id was set.
    assert [event.data for event in events if event.data] == [event.data.encode() for event in theirs if event.data]


@QUIETLY
@given(st.binary(max_size=300), st.integers(1, 300))
def test_arbitrary_bytes_never_raise(text: bytes, size: int) -> None:
    """And come to the same in any pieces."""
    assert read(text) == read(*(text[at : at + size] for at in range(0, len(text), size)))


@QUIETLY
@given(
    st.lists(
        st.sampled_from([b"data: a\n\n", b"data: b\n\n", b"data: \n\n", b"data: c\n", b"\n", b"data:d\n\n", b": e\n\n"])
    )
)
def test_reads_of_whole_events_mean_what_their_bytes_mean(blocks: list[bytes]) -> None:
    """Reads of one or several whole events, the usual shape, give what the same bytes give one by one."""
    text = b"".join(blocks)
    one_by_one = read(*(text[at : at + 1] for at in range(len(text))))
    assert read(text) == read(*blocks) == one_by_one
