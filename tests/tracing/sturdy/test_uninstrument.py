"""After `uninstrument` everything is what it was before `instrument`."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import httpx
import httpx2
import openai
import pytest

from tensorix_simulator import Simulator
from tensorix_tracing import instrument, uninstrument

_CLASSES = [openai.OpenAI, openai.AsyncOpenAI, httpx.Client, httpx.AsyncClient, httpx2.Client, httpx2.AsyncClient]


def _make(kind: type[Any], base_url: str = "http://127.0.0.1:1/v1") -> Any:
    if kind in (openai.OpenAI, openai.AsyncOpenAI):
        return kind(base_url=base_url, api_key="sk-test", max_retries=0)
    return kind(base_url=base_url, headers={"authorization": "Bearer sk-test"})


def _looks(thing: Any) -> dict[str, int]:
    return {name: id(value) for name, value in vars(thing).items()}


def _http(client: Any) -> Any:
    return getattr(client, "_client", client)


@pytest.mark.parametrize("kind", _CLASSES)
def test_a_client_is_what_it_was(kind: type[Any]) -> None:
    """All that is in a client, its HTTP client and their classes is the same object as before; no more, no less."""
    client = _make(kind)
    things = [client, _http(client), kind, type(_http(client))]
    # Asked for before the first look: what an openai client is asked for it keeps.
    own = client.request if hasattr(client, "chat") else client.send
    before = [_looks(thing) for thing in things]
    functions = (own.__func__, _http(client).send.__func__)
    instrument(client)
    assert [_looks(thing) for thing in things] != before
    assert [_looks(thing) for thing in things[2:]] == before[2:]
    uninstrument(client)
    assert [_looks(thing) for thing in things] == before
    own = client.request if hasattr(client, "chat") else client.send
    assert (own.__func__, _http(client).send.__func__) == functions


def test_classes_are_what_they_were() -> None:
    """The same for all clients at once, in every class of the packages that are there."""
    kinds = [part for kind in _CLASSES for part in kind.__mro__ if part is not object]
    before = [_looks(kind) for kind in kinds]
    for _ in range(3):
        instrument(hosts=["127.0.0.1"])
    assert [_looks(kind) for kind in kinds] != before
    uninstrument()
    assert [_looks(kind) for kind in kinds] == before
    uninstrument()
    assert [_looks(kind) for kind in kinds] == before


def _frames(simulator: Simulator, client: Any, parameters: dict[str, Any]) -> set[str]:
    """The modules whose code runs while a call is made."""
    seen: set[str] = set()
    before = sys.getprofile()

    def look(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            seen.add(str(frame.f_globals.get("__name__", "")).partition(".")[0])

    sys.setprofile(look)
    try:
        list(client.chat.completions.create(**parameters, stream=True))
    finally:
        sys.setprofile(before)
    return seen


def test_nothing_of_ours_runs(simulator: Simulator, parameters: dict[str, Any], told: Any) -> None:
    """No function of ours runs in a call that is made after `uninstrument`, whichever way it was instrumented."""
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test") as client:
        bare = _frames(simulator, client, parameters)
        assert "tensorix_tracing" not in bare
        instrument(client, **told.providers)
        instrument(hosts=["127.0.0.1"], **told.providers)
        instrument(client._client, **told.providers)
        assert "tensorix_tracing" in _frames(simulator, client, parameters)
        uninstrument()
        assert "tensorix_tracing" not in _frames(simulator, client, parameters)
    assert len(told.spans) == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_clients_that_share_an_http_client(
    simulator: Simulator, parameters: dict[str, Any], told: Any, order: tuple[int, ...]
) -> None:
    """In whatever order clients over one HTTP client are let go, each is told while instrumented, once a call."""
    with httpx2.Client() as http:
        openais = [openai.OpenAI(base_url=simulator.base_url, api_key="sk-test", http_client=http) for _ in range(2)]
        clients = [*openais, http]
        for one in openais:
            # What openai makes in a client with its first call, it makes now.
            one.chat.completions.create(**parameters)
        before = [_looks(client) for client in clients]
        for client in clients:
            instrument(client, hosts=["127.0.0.1"], **told.providers)

        def call_all() -> int:
            already = len(told.spans)
            for one in openais:
                one.chat.completions.create(**parameters)
            http.post(
                f"{simulator.base_url}/chat/completions", json=parameters, headers={"authorization": "Bearer sk-test"}
            )
            return len(told.spans) - already

        assert call_all() == 3
        left = {0, 1, 2}
        for number in order:
            uninstrument(clients[number])
            left.discard(number)
            # A request of an openai client that is not traced is one of its HTTP client, as long as that is.
            assert call_all() == (3 if 2 in left else len(left))
        assert [_looks(client) for client in clients] == before


def test_copies_go_with_their_client(simulator: Simulator, parameters: dict[str, Any], told: Any) -> None:
    """What `with_options` makes of an instrumented client is told too, and let go with it, as is the HTTP client."""
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test") as client:
        client.chat.completions.create(**parameters)
        before, http_before = _looks(client), _looks(client._client)
        instrument(client, **told.providers)
        copy = client.with_options(timeout=5)
        of_copy = copy.copy(max_retries=0)
        for one in (client, copy, of_copy):
            one.chat.completions.create(**parameters)
        assert len(told.spans) == 3
        gone = weakref.ref(client.with_options(timeout=3))
        gc.collect()
        assert gone() is None
        del copy
        gc.collect()
        uninstrument(client)
        of_copy.chat.completions.create(**parameters)
        assert (len(told.spans), told.open) == (3, 0)
        assert not {"request", "copy", "with_options"} & set(vars(of_copy))
        assert (_looks(client), _looks(client._client)) == (before, http_before)


def test_another_tool_hooked_in_on_top(simulator: Simulator, parameters: dict[str, Any], told: Any) -> None:
    """A hook that somebody put over ours stays and works; ours below tells no more, and does again when asked to."""
    with httpx.Client(base_url=simulator.base_url, headers={"authorization": "Bearer sk-test"}) as client:
        seen: list[str] = []
        instrument(client, **told.providers)
        ours = client.send

        def on_top(request: httpx.Request, **options: Any) -> httpx.Response:
            seen.append(request.method)
            return ours(request, **options)

        client.send = on_top  # type: ignore[method-assign]
        client.post("/chat/completions", json=parameters)
        uninstrument(client)
        client.post("/chat/completions", json=parameters)
        assert (len(seen), len(told.spans), client.send) == (2, 1, on_top)
        instrument(client, **told.providers)
        client.post("/chat/completions", json=parameters)
        assert (len(seen), len(told.spans)) == (3, 2)
        uninstrument(client)
        assert client.send is on_top


def test_another_tool_hooked_in_on_top_of_a_class(
    simulator: Simulator, parameters: dict[str, Any], told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on the classes."""
    with httpx.Client(base_url=simulator.base_url, headers={"authorization": "Bearer sk-test"}) as client:
        instrument(hosts=["127.0.0.1"], **told.providers)
        ours = httpx.Client.send
        before = ours.__wrapped__  # type: ignore[attr-defined]

        def on_top(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
            return ours(self, request, **options)

        httpx.Client.send = on_top  # type: ignore[method-assign]
        try:
            client.post("/chat/completions", json=parameters)
            uninstrument()
            client.post("/chat/completions", json=parameters)
            assert len(told.spans) == 1
        finally:
            httpx.Client.send = before  # type: ignore[method-assign]


def test_a_stream_that_is_open_at_uninstrument(simulator: Simulator, parameters: dict[str, Any], told: Any) -> None:
    """It is followed to its end, whichever that is."""
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test") as client:
        instrument(client, **told.providers)
        streams = [client.chat.completions.create(**parameters, stream=True) for _ in range(3)]
        for stream in streams:
            next(stream)
        uninstrument(client)
        list(streams[0])
        streams[1].close()
        del streams[2], stream
        gc.collect()
    assert [span.attributes["tensorix.stream.outcome"] for span in told.spans] == [
        "completed",
        "closed_early",
        "abandoned",
    ]
    assert sum(point.count for point in told.points("gen_ai.client.operation.duration")) == 3


@pytest.mark.parametrize("kind", _CLASSES)
def test_an_instrumented_client_is_not_kept(kind: type[Any], told: Any) -> None:
    """A client dropped while instrumented goes, even with a hook of somebody else's below ours."""
    client = _make(kind)
    name = "request" if hasattr(client, "chat") else "send"
    setattr(client, name, getattr(client, name))
    instrument(client, **told.providers)
    gone = [weakref.ref(client), weakref.ref(_http(client))]
    del client
    gc.collect()
    assert [one() for one in gone] == [None, None]


def test_a_thousand_times(simulator: Simulator, parameters: dict[str, Any], told: Any) -> None:
    """Instrumented and let go 1,000 times, a client leaves no object of ours behind, and no instrument."""

    def ours() -> int:
        gc.collect()
        return sum(type(thing).__module__.startswith("tensorix_tracing") for thing in gc.get_objects())

    consumer = told.meter_provider._measurement_consumer
    with openai.OpenAI(base_url=simulator.base_url, api_key="sk-test") as client:
        counts = []
        for rounds in (2, 1000):
            for number in range(rounds):
                instrument(client, **told.providers)
                if number < 2:
                    client.chat.completions.create(**parameters)
                uninstrument(client)
            counts.append((ours(), len(consumer._async_instruments)))
    assert counts[0] == counts[1]
