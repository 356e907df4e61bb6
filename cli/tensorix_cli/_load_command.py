"""`tensorix load`: the options, a plan's file and an earlier run's manifest become one plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from tensorix_api.errors import SettingsError
from tensorix_api.settings import Settings
from tensorix_cli import _load_options as option
from tensorix_cli import _load_plan_file as plan_file
from tensorix_cli import _options
from tensorix_cli._extras import require
from tensorix_cli._output import complain
from tensorix_cli._places import fresh, place_of
from tensorix_cli.exit_status import ExitStatus

if TYPE_CHECKING:
    from tensorix_loadtests.plan import LoadPlan

__all__ = ["LoadCommand", "load"]

# Their values may be secrets, or they say where to write rather than what to do.
_CHANGED_BY_RESUMING = ("requests", "duration", "cap_requests", "cap_tokens", "cap_cost")
_BESIDE_A_RESUMED_RUN = ("resume", "yes", "report", "junit")
_NOT_REPEATED = {"headers", "out", "yes", "report", "plan", "again", "resume", "help"}


class LoadCommand(TyperCommand):
    """A command whose options are also read from `--plan FILE` or `--again RUN`; the command line goes over them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the options of the file or run as defaults, and remember all that were given, for the manifest."""
        args = _with_web_on(args)
        try:
            raw, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        except typer.TyperException:
            # The parsing proper says it better.
            return super().parse_args(ctx, args)
        given = self._given(raw)
        if given is not None:
            ctx.default_map = given.values
            ctx.meta["tensorix.given"] = given
        texts = (given.values if given else {}) | raw
        ctx.meta["tensorix.options"] = {
            name: _kept(name, value) for name, value in texts.items() if name not in _NOT_REPEATED and value is not None
        }
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            name = getattr(error.param, "name", None)
            if given is None or name is None or name in raw or (place := given.place(name)) is None:
                raise
            raise SettingsError(f"{place}: {error.format_message()}") from None

    def _given(self, raw: dict[str, Any]) -> plan_file.Given | None:
        if sum(1 for name in ("plan", "again", "resume") if raw.get(name)) > 1:
            raise SettingsError("--plan, --again and --resume each say what to do: give one of them")
        if raw.get("plan"):
            spellings = {
                spelling.removeprefix("--"): parameter.name or ""
                for parameter in self.params
                for spelling in (*parameter.opts, *parameter.secondary_opts)
                if spelling.startswith("--")
            }
            return plan_file.from_file(Path(raw["plan"]), spellings)
        if folder := raw.get("again"):
            from tensorix_records import Run

            return plan_file.from_run(Run.open(folder).manifest, Path(folder))
        return None


def _with_web_on(args: list[str]) -> list[str]:
    """`--web` alone is the page at its usual place."""
    alone = [at for at, one in enumerate(args) if one == "--web" and (args[at + 1 :] or ["-"])[0].startswith("-")]
    return [piece for at, one in enumerate(args) for piece in ((one, "on") if at in alone else (one,))]


def _kept(name: str, value: Any) -> Any:
    """As a later run can read it from another folder."""
    if name in plan_file.PATHS:
        return [str(Path(one).absolute()) for one in value] if isinstance(value, list) else str(Path(value).absolute())
    return list(value) if isinstance(value, tuple) else value


def load(
    ctx: typer.Context,
    base_url: option.BaseUrl = None,
    model: option.Model = None,
    models: option.Models = None,
    out: option.Out = None,
    plan: option.PlanFile = None,
    again: option.Again = None,
    resume: option.Resume = None,
    users: option.Users = 1,
    spawn_rate: option.SpawnRate = 1.0,
    requests: option.Requests = None,
    duration: option.Duration = None,
    mix: option.Mix = None,
    stream: option.Stream = None,
    think_time: option.ThinkTime = None,
    rate: option.Rate = None,
    arrivals: option.ArrivalGaps = None,
    steps: option.Steps = None,
    ramp: option.Ramp = None,
    spike: option.Spike = None,
    replay: option.ReplayFile = None,
    replay_speed: option.ReplaySpeed = None,
    max_users: option.MaxUsers = None,
    seed: option.Seed = None,
    prompts: option.Prompts = None,
    prompt_files: option.PromptFiles = None,
    prompt_format: option.PromptFormat = None,
    prompt_tokens: option.PromptTokens = None,
    answer_tokens: option.AnswerTokens = None,
    turns: option.Turns = None,
    shared_prefix: option.SharedPrefix = None,
    shared_prefixes: option.SharedPrefixes = None,
    unique_prompts: option.UniquePrompts = None,
    max_tokens: option.MaxTokens = 64,
    temperature: option.Temperature = None,
    headers: option.Headers = None,
    body: option.Body = None,
    ca_bundle: option.CaBundle = None,
    limit_requests: option.LimitRequests = None,
    limit_tokens: option.LimitTokens = None,
    limit_window: option.LimitWindow = None,
    limit_share: option.LimitShare = None,
    cap_requests: option.CapRequests = None,
    cap_tokens: option.CapTokens = None,
    cap_cost: option.CapCost = None,
    prices: option.Prices = None,
    key_variables: option.KeyVariables = None,
    keys: option.Keys = None,
    retries: option.Retries = None,
    slo: option.Slo = None,
    good: option.Good = None,
    stop_on: option.StopOn = None,
    junit: option.JUnit = None,
    web: option.Web = None,
    prometheus: option.PrometheusPage = None,
    otlp: option.Otlp = None,
    processes: option.Processes = None,
    workers: option.Workers = None,
    bind: option.Bind = None,
    wait_for_workers: option.WaitForWorkers = None,
    connect_timeout: option.ConnectTimeout = 10.0,
    first_token_timeout: option.FirstTokenTimeout = 60.0,
    chunk_timeout: option.ChunkTimeout = 30.0,
    timeout: option.Timeout = 300.0,
    label: option.Label = None,
    yes: option.Yes = False,
    report: option.Reported = True,
) -> None:
    """Run a load test and report it. The key is read from TENSORIX_API_KEY.

    Each of the users asks, waits for the answer and asks again, until the number of requests or the duration is over.
    With a rate, steps, a ramp, a spike or a replay requests have times of their own instead, however late answers are.
    Before anything is sent off this machine, the most that the run can use is printed and agreed to.
    """
    require("loadtests", *(["reports"] if report or junit else []))
    from tensorix_cli._cost import agree, bounded
    from tensorix_cli._load import run_load
    from tensorix_cli._load_plan import plan_of
    from tensorix_records import Run

    if resume is not None:
        load_plan, settings = _resumed(ctx, resume)
        if not agree(load_plan, settings, assumed=yes):
            complain("nothing was sent")
            raise typer.Exit(ExitStatus.MISTAKE)
        folder = resume.absolute()
        raise typer.Exit(run_load(load_plan, folder, settings.api_key, reported=report, junit=junit, resume=True))
    settings = Settings.from_environment(base_url=base_url, model=model)
    try:
        asked = plan_of(ctx.params, settings, ctx.meta["tensorix.options"])
    except SettingsError as error:
        raise SettingsError(_placed(ctx, str(error))) from None
    if settings.api_key is None and not settings.is_loopback and not key_variables:
        raise SettingsError(f"no API key for {settings.host}: set TENSORIX_API_KEY")
    load_plan = bounded(asked, settings)
    place = place_of(out or fresh(""))
    Run.check_creatable(place)
    if junit is not None:
        place_of(junit)
    if not agree(load_plan, settings, assumed=yes, capped=load_plan is not asked):
        complain("nothing was sent")
        raise typer.Exit(ExitStatus.MISTAKE)
    raise typer.Exit(run_load(load_plan, place, settings.api_key, reported=report, junit=junit))


def _placed(ctx: typer.Context, words: str) -> str:
    """A mistake with the place in the plan that it came from, where it names the option or repeats the value."""
    given: plan_file.Given | None = ctx.meta.get("tensorix.given")
    if given is None:
        return words
    named = {one.name: one.opts for one in ctx.command.params}
    ours = [name for name in given.values if getattr(ctx.get_parameter_source(name), "name", "") != "COMMANDLINE"]
    by_option = [name for name in ours if any(re.search(rf"{one}(?![\w-])", words) for one in named.get(name, ()))]
    found = by_option or [name for name in ours if any(repr(one) in words for one in _texts(given.values[name]))]
    place = given.place(found[0]) if found else None
    return words if place is None else f"{place}: {words}"


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _resumed(ctx: typer.Context, folder: Path) -> tuple[LoadPlan, Settings]:
    """The plan of a run that is to go on, with the little of it that may be changed."""
    from dataclasses import replace

    from tensorix_loadtests.spending import check_left, plan_of_run

    given = {
        name: value
        for name, value in ctx.params.items()
        if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE" and name not in _BESIDE_A_RESUMED_RUN
    }
    if fixed := sorted(set(given) - {"headers", *_CHANGED_BY_RESUMING}):
        spelling = next(one.opts[0] for one in ctx.command.params if one.name == fixed[0])
        raise SettingsError(
            f"--resume goes on as the run was asked for: leave out {spelling}, or repeat the run with --again"
        )
    plan = plan_of_run(folder, headers=dict(map(_options.header, given.get("headers") or [])))
    plan = replace(
        plan,
        **{
            field: given[name]
            for name, field in (("requests", "requests"), ("duration", "duration_s"))
            if name in given
        },
    )
    caps = {
        "cap_requests": "most_requests",
        "cap_tokens": "most_tokens",
        "cap_cost": "most_money",
    }
    changed = {field: given[name] for name, field in caps.items() if name in given}
    plan = replace(plan, spending=replace(plan.spending, **changed))
    check_left(plan, folder)
    return plan, Settings.from_environment(base_url=plan.base_url, model=plan.model)
