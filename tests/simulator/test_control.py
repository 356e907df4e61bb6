"""The control interface: settings and truth while it runs, apart from the public port."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tensorix_api.errors import SettingsError
from tensorix_simulator import Simulator
from tensorix_simulator.settings import SimulatorSettings

Body = Callable[..., dict[str, Any]]


@pytest.fixture
def control(quick: Simulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=quick.control_url, trust_env=False) as client:
        yield client


def test_settings_are_read_replaced_and_changed(control: httpx.Client) -> None:
    """GET shows them whole, PATCH changes what it names, PUT puts everything else back to the defaults."""
    assert control.get("/settings").json()["rpm"] is None
    changed = control.patch("/settings", json={"rpm": 5, "valid_keys": ["sk-x"]}).json()
    assert (changed["rpm"], changed["tpm"]) == (5, None)
    assert SimulatorSettings.from_dict(changed) == SimulatorSettings.from_dict(control.get("/settings").json())
    assert control.put("/settings", json={"tpm": 7}).json() == SimulatorSettings(tpm=7).to_dict()
    assert control.put("/settings", json={"rpm": None, "tpm": None, "ttft": "1ms"}).status_code == 200


@pytest.mark.parametrize(
    ("content", "named"),
    [('{"rpm": "x"}', "'rpm'"), ('{"rqm": 1}', "'rqm'"), ("[]", "JSON object"), ("{", "JSON object"),
     ('{"format": 2}', "format 1"), ('{"ttft": "soon"}', "'ttft'")],
)  # fmt: skip
def test_a_wrong_change_changes_nothing(control: httpx.Client, content: str, named: str) -> None:
    """400 names what is wrong, and the settings stay."""
    before = control.get("/settings").json()
    response = control.patch("/settings", content=content)
    assert response.status_code == 400
    assert named in response.json()["error"]["message"]
    assert control.get("/settings").json() == before


def test_pages_and_methods(control: httpx.Client, quick: Simulator) -> None:
    """Health, and an error that names the pages or methods there are; the API is not served here, nor this there."""
    assert control.get("/healthz").json() == {"status": "ok", "streams": 0}
    assert "/settings" in control.get("/v1/models").json()["error"]["message"]
    assert control.delete("/settings").headers["allow"] == "GET, PUT, PATCH"
    root = quick.base_url.removesuffix("/v1")
    assert httpx.get(f"{root}/settings", headers={"authorization": "Bearer sk-a"}, trust_env=False).status_code == 404


def test_the_truth_is_read_on_from_where_one_was(control: httpx.Client, quick: Simulator, body: Body) -> None:
    """Every line once, whole, over several reads."""

    def read(offset: int) -> tuple[list[dict[str, Any]], int]:
        response = control.get("/truth", params={"offset": offset})
        assert response.headers["content-type"] == "application/x-ndjson"
        return [json.loads(line) for line in response.text.splitlines()], int(response.headers["x-next-offset"])

    first, offset = read(0)
    assert first[0]["event"] == "start"
    headers = {"authorization": "Bearer sk-a", "x-request-id": "later"}
    httpx.post(f"{quick.base_url}/chat/completions", json=body(), headers=headers, trust_env=False)
    later, offset = read(offset)
    assert [(line["event"], line["request_id"]) for line in later] == [("arrival", "later"), ("end", "later")]
    assert read(offset) == ([], offset)
    assert first + later == quick.truth()
    assert control.get("/truth", params={"offset": "-1"}).status_code == 400


def test_a_changed_limit_keeps_what_was_used(start: Callable[..., Simulator], body: Body) -> None:
    """Limits change in the middle of a window; a reset makes every key fresh."""
    simulator = start(rpm=3)
    with httpx.Client(headers={"authorization": "Bearer sk-a"}, trust_env=False) as client:

        def ask() -> tuple[int, str | None]:
            response = client.post(f"{simulator.base_url}/chat/completions", json=body())
            return response.status_code, response.headers.get("x-ratelimit-api_key-remaining-requests")

        assert ask() == (200, "2")
        simulator.change(rpm=2)
        assert [ask(), ask()] == [(200, "0"), (429, "0")]
        simulator.change(rpm=None)
        assert ask() == (200, None)
        simulator.change(rpm=2)
        assert ask() == (200, "1")
        simulator.reset()
        assert ask() == (200, "1")
    events = [line["event"] for line in simulator.truth() if line["event"] not in ("arrival", "end")]
    assert events == ["start", "settings", "settings", "settings", "reset"]


def test_a_wrong_change_is_the_callers_mistake(start: Callable[..., Simulator]) -> None:
    """`Simulator` raises before anything is sent, and keeps its settings."""
    simulator = start(rpm=3)
    with pytest.raises(SettingsError, match="'rpm'"):
        simulator.change(rpm=-1)
    with pytest.raises(SettingsError, match="unknown setting 'rqm'"):
        Simulator(rqm=1)
    assert simulator.settings.rpm == 3
