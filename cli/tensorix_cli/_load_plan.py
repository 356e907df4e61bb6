"""The plan that the options of `tensorix load` come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tensorix_api.errors import SettingsError
from tensorix_api.settings import Settings
from tensorix_cli import _options
from tensorix_cli._cost import DEFAULT_REQUESTS
from tensorix_loadtests.plan import (
    CHAT_STREAMED,
    CHAT_UNSTREAMED,
    DEFAULT_PROMPT,
    Arrivals,
    Goals,
    Limits,
    LoadPlan,
    Machines,
    Prompting,
    Spending,
    Timeouts,
    Watching,
    arrivals_of,
    parse_key_variables,
    read_lengths,
    read_models,
    read_prices,
    read_think_time,
)
from tensorix_loadtests.prompts import survey
from tensorix_loadtests.schedules import check_schedule

__all__ = ["plan_of"]

T = TypeVar("T")

# Files of these names are no plain lines of text.
_LARGE_BYTES = 64 << 10
_STRUCTURED = {".jsonl", ".json", ".csv", ".ndjson"}


def plan_of(given: Mapping[str, Any], settings: Settings, texts: Mapping[str, Any]) -> LoadPlan:
    """The plan that the values `given` for the options make; `texts` is how they were written, for the manifest.

    Raises SettingsError, in one line that names the option.
    """
    if given["mix"] and given["stream"] is not None:
        raise SettingsError("--mix says already what is streamed: leave out --stream and --no-stream")
    arrivals = arrivals_of(
        rate=given["rate"],
        steps=given["steps"],
        ramp=given["ramp"],
        spike=given["spike"],
        replay=given["replay"],
        speed=given["replay_speed"],
        gaps=given["arrivals"],
        seed=given["seed"],
        most_users=given["max_users"],
        duration_s=given["duration"],
        requests=given["requests"],
    )
    requests = given["requests"]
    if requests is None and given["duration"] is None and arrivals is None:
        requests = DEFAULT_REQUESTS
    source, prompts = _prompting(given)
    models = _read("--models", read_models, given["models"]) or {}
    plan = _plan(given, settings, requests, arrivals, source, prompts, models, dict(texts))
    if arrivals is not None and arrivals.replay is not None:
        check_schedule(plan)
    # The whole of a file, before anything is sent.
    survey(plan)
    return plan


def _plan(
    given: Mapping[str, Any],
    settings: Settings,
    requests: int | None,
    arrivals: Arrivals | None,
    source: Prompting,
    prompts: tuple[str, ...],
    models: dict[str, float],
    texts: dict[str, Any],
) -> LoadPlan:
    return LoadPlan(
        base_url=settings.base_url,
        model=None if models else settings.model,
        models=models,
        arrivals=arrivals,
        think_time=_read("--think-time", read_think_time, given["think_time"]),
        prompting=source,
        spending=_spending(given),
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
        options=texts,
    )


def _prompting(given: Mapping[str, Any]) -> tuple[Prompting, tuple[str, ...]]:
    """Where prompts come from, and the texts that are taken in turn. A file of plain lines adds to the texts."""
    files = list(given["prompt_files"] or [])
    form = given["prompt_format"] or "auto"
    path = None
    if form == "auto" and files and files[0].suffix.lower() not in _STRUCTURED:
        form = "text"
    if len(files) == 1 and (form != "text" or (not given["prompts"] and _is_large(files[0]))):
        path = str(files.pop().absolute())
    elif form not in ("auto", "text"):
        raise SettingsError(f"--prompt-format {form} is for one --prompt-file: give one")
    if path and given["prompts"]:
        raise SettingsError("--prompt and a --prompt-file that is no plain text are two sources: leave one out")
    if given["shared_prefixes"] and not given["shared_prefix"]:
        raise SettingsError("--shared-prefixes says how many, --shared-prefix how long they are: give both")
    source = Prompting(
        path=path,
        **_told(
            format=form if path else None,
            prompt_tokens=_read("--prompt-tokens", read_lengths, given["prompt_tokens"]),
            answer_tokens=_read("--answer-tokens", read_lengths, given["answer_tokens"]),
            turns=_read("--turns", read_lengths, given["turns"]),
            shared_prefix_tokens=given["shared_prefix"],
            shared_prefixes=given["shared_prefixes"],
            unique=given["unique_prompts"],
            seed=given["seed"],
        ),
    )
    return source, _options.prompts(given["prompts"] or [], files)


def _is_large(path: Path) -> bool:
    """Whether a file of lines is read as it is needed, rather than put into the plan."""
    try:
        return path.stat().st_size > _LARGE_BYTES
    except OSError:
        return False


def _spending(given: Mapping[str, Any]) -> Spending:
    if given["keys"] not in (None, "spread", "pinned"):
        raise SettingsError("--keys is neither spread nor pinned: write one of them (a key itself is never an option)")
    return Spending(
        **_told(
            most_requests=given["cap_requests"],
            most_tokens=given["cap_tokens"],
            most_money=given["cap_cost"],
            prices=read_prices(given["prices"]) if given["prices"] else None,
            limit_share=given["limit_share"],
            key_variables=parse_key_variables(given["key_variables"] or ()),
            keys=given["keys"],
            most_retries=given["retries"],
        )
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
