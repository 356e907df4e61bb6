"""The plan that the options of `tensorix load` come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tensorix_api.errors import SettingsError
from tensorix_api.settings import Settings
from tensorix_cli import _options
from tensorix_cli._cost import DEFAULT_REQUESTS
from tensorix_loadtests.plan import (
    CHAT_STREAMED,
    CHAT_UNSTREAMED,
    DEFAULT_PROMPT,
    Goals,
    Limits,
    LoadPlan,
    Machines,
    Timeouts,
    Watching,
)

__all__ = ["plan_of"]

T = TypeVar("T")


def plan_of(given: Mapping[str, Any], settings: Settings, texts: Mapping[str, Any]) -> LoadPlan:
    """The plan that the values `given` for the options make; `texts` is how they were written, for the manifest.

    Raises SettingsError, in one line that names the option.
    """
    if given["mix"] and given["stream"] is not None:
        raise SettingsError("--mix says already what is streamed: leave out --stream and --no-stream")
    requests = given["requests"]
    if requests is None and given["duration"] is None:
        requests = DEFAULT_REQUESTS
    prompts = _options.prompts(given["prompts"] or [], given["prompt_files"] or [])
    return LoadPlan(
        base_url=settings.base_url,
        model=settings.model,
        users=given["users"],
        spawn_rate=given["spawn_rate"],
        requests=requests,
        duration_s=given["duration"],
        mix=given["mix"] or {CHAT_UNSTREAMED if given["stream"] is False else CHAT_STREAMED: 1.0},
        max_tokens=given["max_tokens"],
        temperature=given["temperature"],
        prompts=prompts or (DEFAULT_PROMPT,),
        headers=dict(map(_options.header, given["headers"] or [])),
        body=_options.body(given["body"]) if given["body"] else {},
        timeouts=Timeouts(
            connect_s=given["connect_timeout"],
            first_token_s=given["first_token_timeout"],
            chunk_s=given["chunk_timeout"],
            total_s=given["timeout"],
        ),
        ca_bundle=None if given["ca_bundle"] is None else str(given["ca_bundle"].absolute()),
        limits=Limits.of(
            settings.base_url,
            requests=given["limit_requests"],
            tokens=given["limit_tokens"],
            window_s=given["limit_window"],
        ),
        label=given["label"],
        goals=Goals(
            objectives=tuple(given["slo"] or ()),
            good=tuple(given["good"] or ()),
            brakes=tuple(given["stop_on"] or ()),
        ),
        watching=Watching(web=given["web"], prometheus=given["prometheus"], otlp=bool(given["otlp"])),
        machines=Machines(
            **_told(
                processes=given["processes"],
                workers=given["workers"],
                bind=given["bind"],
                wait_s=given["wait_for_workers"],
            )
        ),
        options=dict(texts),
    )


def _told(**values: Any) -> dict[str, Any]:
    """Without those that were not given: the plan has defaults of its own."""
    return {name: value for name, value in values.items() if value is not None}


def _read(name: str, parse: Callable[[str], T], text: str | None) -> T | None:
    """The value of an option's text form; a mistake names the option."""
    if text is None:
        return None
    try:
        return parse(text)
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}") from None
