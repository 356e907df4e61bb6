"""The options of `tensorix load`, each with its form and its help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from tensorix_api.errors import SettingsError
from tensorix_cli import _options

__all__ = [
    "Again",
    "AnswerTokens",
    "ArrivalGaps",
    "BaseUrl",
    "Bind",
    "Body",
    "CaBundle",
    "CapCost",
    "CapRequests",
    "CapTokens",
    "ChunkTimeout",
    "ConnectTimeout",
    "Duration",
    "FirstTokenTimeout",
    "Good",
    "Headers",
    "JUnit",
    "KeyVariables",
    "Keys",
    "Label",
    "LimitRequests",
    "LimitShare",
    "LimitTokens",
    "LimitWindow",
    "MaxTokens",
    "MaxUsers",
    "Mix",
    "Model",
    "Models",
    "Otlp",
    "Out",
    "PlanFile",
    "Prices",
    "Processes",
    "PrometheusPage",
    "PromptFiles",
    "PromptFormat",
    "PromptTokens",
    "Prompts",
    "Ramp",
    "Rate",
    "ReplayFile",
    "ReplaySpeed",
    "Reported",
    "Requests",
    "Resume",
    "Retries",
    "Seed",
    "SharedPrefix",
    "SharedPrefixes",
    "Slo",
    "SpawnRate",
    "Spike",
    "Steps",
    "StopOn",
    "Stream",
    "Temperature",
    "ThinkTime",
    "Timeout",
    "Turns",
    "UniquePrompts",
    "Users",
    "WaitForWorkers",
    "Web",
    "Workers",
    "Yes",
    "option_of_time",
]

_TRAFFIC, _REQUEST, _LIMITS, _TIMEOUTS = "Traffic", "Request", "Limits of the key", "Timeouts"
_SCHEDULE, _PROMPTS, _SPENDING = "Schedule (open loop)", "Prompts", "Budgets and keys"
_GOALS, _WATCHING, _MACHINES = "Objectives and brakes", "Watching", "Machines"


def _parsed(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """A parser as typer wants it: its error names the option, and a default is taken as it is."""

    def parser(value: Any) -> Any:
        try:
            return parse(value) if isinstance(value, str) else value
        except SettingsError as error:
            raise typer.BadParameter(str(error)) from None

    return parser


def option_of_time(help_text: str, default: str | None = None, panel: str | None = None) -> Any:
    """An option that takes `90s`, `5m` or `1h30m` and gives seconds; `default` is how its default is written."""
    return typer.Option(
        parser=_parsed(_options.duration),
        metavar="TIME",
        help=f"{help_text} (default: {default})." if default else f"{help_text}.",
        show_default=False,
        rich_help_panel=panel,
    )


def _text(metavar: str, help_text: str, panel: str, *names: str) -> Any:
    """An option with a text form that a part of the plan reads."""
    return typer.Option(*names, metavar=metavar, help=help_text, show_default=False, rich_help_panel=panel)


def _number(metavar: str, help_text: str, panel: str, *names: str, least: float = 1) -> Any:
    """An option with a number from `least` on."""
    return typer.Option(*names, metavar=metavar, min=least, help=help_text, show_default=False, rich_help_panel=panel)


BaseUrl: TypeAlias = Annotated[
    str | None, typer.Option(metavar="URL", help="The server, up to /v1 (default: TENSORIX_BASE_URL, else Tensorix).")
]
Model: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="Default: TENSORIX_MODEL, else the first that the server lists.")
]
Out: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="RUN", help="The run folder to make (default: a new one under runs/).")
]
Label: TypeAlias = Annotated[str | None, typer.Option(metavar="TEXT", help="A few words for the report's title.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before sending off this machine.")]
Reported: TypeAlias = Annotated[bool, typer.Option("--report/--no-report", help="Write the report at the end.")]

Users: TypeAlias = Annotated[int, typer.Option(metavar="N", min=1, help="Users at once.", rich_help_panel=_TRAFFIC)]
SpawnRate: TypeAlias = Annotated[
    float, typer.Option(metavar="R", help="Users started a second.", rich_help_panel=_TRAFFIC)
]
Requests: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="End after so many (default: 60 where no --duration is given).",
        rich_help_panel=_TRAFFIC,
    ),
]
Duration: TypeAlias = Annotated[
    float | None,
    option_of_time(
        "End after this time: 60s, 5m, 1h30m; off this machine, without --requests, sooner if twice the requests "
        "that the limit allows in it were sent",
        panel=_TRAFFIC,
    ),
]
Mix: TypeAlias = Annotated[
    dict[str, float] | None,
    typer.Option(
        parser=_parsed(_options.mix),
        metavar="KIND=SHARE,…",
        help="Shares of the users: chat-streamed, chat-unstreamed, models (default: chat alone).",
        rich_help_panel=_TRAFFIC,
    ),
]
Stream: TypeAlias = Annotated[
    bool | None,
    typer.Option("--stream/--no-stream", help="How chat is answered (default: streamed).", rich_help_panel=_TRAFFIC),
]

Prompts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt", metavar="TEXT", help="What is asked; several are taken in turn.", rich_help_panel=_REQUEST
    ),
]
PromptFiles: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--prompt-file",
        metavar="FILE",
        help="Prompts: lines of text, messages (JSONL), ShareGPT's format or CSV.",
        rich_help_panel=_REQUEST,
    ),
]
MaxTokens: TypeAlias = Annotated[
    int, typer.Option(metavar="N", min=1, help="Bounds each answer.", rich_help_panel=_REQUEST)
]
Temperature: TypeAlias = Annotated[
    float | None, typer.Option(metavar="T", help="From 0 to 2.", rich_help_panel=_REQUEST)
]
Headers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--header", metavar="'NAME: VALUE'", help="An extra header; may be repeated.", rich_help_panel=_REQUEST
    ),
]
Body: TypeAlias = Annotated[
    str | None, typer.Option(metavar="JSON", help="Extra fields of the chat request.", rich_help_panel=_REQUEST)
]
CaBundle: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Trust these PEM certificates.", rich_help_panel=_REQUEST)
]

PlanFile: TypeAlias = Annotated[
    Path | None,
    _text("FILE", "A load plan in TOML; what is given here as well goes over it.", "Options", "--plan"),
]
Again: TypeAlias = Annotated[
    Path | None,
    _text("RUN", "As that run was asked for; what is given here as well goes over it.", "Options", "--again"),
]
Resume: TypeAlias = Annotated[
    Path | None,
    _text("RUN", "Go on with a run that was killed or ended, in its own folder.", "Options", "--resume"),
]

ThinkTime: TypeAlias = Annotated[
    str | None,
    _text("TIME", "A user's pause before it asks again: 2s, exponential:2s, uniform:2s.", _TRAFFIC),
]
Rate: TypeAlias = Annotated[
    str | None, _text("RATE", "Requests at this rate, whatever becomes of them: 5, 5/s, 300/min.", _SCHEDULE)
]
ArrivalGaps: TypeAlias = Annotated[
    str | None,
    _text("KIND", "poisson (default), constant, or gamma:CV (CV 2 is burstier).", _SCHEDULE, "--arrivals"),
]
Steps: TypeAlias = Annotated[str | None, _text("RATES", "Rates one after the other: '1,2,5 x 30s'.", _SCHEDULE)]
Ramp: TypeAlias = Annotated[str | None, _text("FROM:TO", "A rate that rises evenly over --duration: 1:20.", _SCHEDULE)]
Spike: TypeAlias = Annotated[
    str | None, _text("BASE:PEAK:TIME", "A peak in the middle of --duration: 2:20:10s.", _SCHEDULE)
]
ReplayFile: TypeAlias = Annotated[
    str | None,
    _text("PATH", "Send again: the folder of a run, Mooncake's JSONL or Azure's CSV trace.", _SCHEDULE, "--replay"),
]
ReplaySpeed: TypeAlias = Annotated[float | None, _number("X", "2 sends a replay in half its time.", _SCHEDULE, least=0)]
MaxUsers: TypeAlias = Annotated[
    int | None, _number("N", "So many may wait for answers at once (default: 1000).", _SCHEDULE)
]
Seed: TypeAlias = Annotated[
    int | None, _number("N", "Arrivals and synthetic prompts are the same for the same seed.", _SCHEDULE, least=0)
]

Models: TypeAlias = Annotated[
    str | None, _text("NAME=SHARE,…", "Several models, by their share of the requests.", _REQUEST)
]
PromptFormat: TypeAlias = Annotated[
    str | None,
    _text("FORMAT", "Of --prompt-file: text, messages (JSONL), sharegpt, csv (default: by its look).", _PROMPTS),
]
PromptTokens: TypeAlias = Annotated[
    str | None,
    _text("LENGTHS", "Made-up prompts: 500, normal:500,100, lognormal:500,300, uniform:100-900, file:F.", _PROMPTS),
]
AnswerTokens: TypeAlias = Annotated[
    str | None, _text("LENGTHS", "Bounds of the answers, in the same forms (over --max-tokens).", _PROMPTS)
]
Turns: TypeAlias = Annotated[
    str | None, _text("NUMBERS", "Conversations of so many turns, with the model's own answers.", _PROMPTS)
]
SharedPrefix: TypeAlias = Annotated[
    int | None, _number("TOKENS", "Every prompt begins with the same so many tokens.", _PROMPTS)
]
SharedPrefixes: TypeAlias = Annotated[
    int | None, _number("N", "So many such beginnings; each prompt has one of them (default: 1).", _PROMPTS)
]
UniquePrompts: TypeAlias = Annotated[
    bool | None,
    _text("", "No prompt begins like another: no cache of prefixes helps.", _PROMPTS, "--unique-prompts"),
]

CapRequests: TypeAlias = Annotated[
    int | None, _number("N", "Never send more requests, retries and resumed runs included.", _SPENDING)
]
CapTokens: TypeAlias = Annotated[int | None, _number("N", "Never use more tokens.", _SPENDING)]
CapCost: TypeAlias = Annotated[
    float | None, _number("MONEY", "Never spend more, by the prices of --prices.", _SPENDING, least=0)
]
Prices: TypeAlias = Annotated[
    Path | None, _text("FILE", "What a million tokens of each model cost (TOML or JSON).", _SPENDING)
]
LimitShare: TypeAlias = Annotated[
    float | None, _number("SHARE", "Stay within this share of the key's limits: 0.95.", _SPENDING, least=0)
]
KeyVariables: TypeAlias = Annotated[
    list[str] | None,
    _text(
        "NAME",
        "The environment variable of a key (default: TENSORIX_API_KEY); repeated for several.",
        _SPENDING,
        "--key-env",
    ),
]
Keys: TypeAlias = Annotated[
    str | None, _text("HOW", "spread: the key with room first (default); pinned: a key for each user.", _SPENDING)
]
Retries: TypeAlias = Annotated[
    int | None, _number("N", "Try a request that got a 429 again, so often (default: 0).", _SPENDING, least=0)
]

Slo: TypeAlias = Annotated[
    list[str] | None,
    _text("OBJECTIVE", "'ttft_p95 < 800ms', 'error_rate < 1%', 'goodput > 0.9/s'; may be repeated.", _GOALS),
]
Good: TypeAlias = Annotated[
    list[str] | None,
    _text("CRITERION", "What a good request is, for goodput: 'ttft < 800ms', 'itl < 50ms'; may be repeated.", _GOALS),
]
StopOn: TypeAlias = Annotated[
    list[str] | None,
    _text("BRAKE", "End the run once it is so for a while: 'error_rate > 20% for 10s'; may be repeated.", _GOALS),
]
JUnit: TypeAlias = Annotated[Path | None, _text("FILE", "Write the objectives as JUnit XML.", _GOALS, "--junit")]

Web: TypeAlias = Annotated[
    str | None, _text("[HOST:PORT]", "Locust's web page, with a tab of ours (alone: at 127.0.0.1:8089).", _WATCHING)
]
PrometheusPage: TypeAlias = Annotated[
    str | None, _text("HOST:PORT", "A page of metrics for Prometheus.", _WATCHING, "--prometheus")
]
Otlp: TypeAlias = Annotated[
    bool | None, _text("", "Metrics to a collector, by the OTEL_* variables.", _WATCHING, "--otlp")
]

Processes: TypeAlias = Annotated[int | None, _number("N", "Send from so many processes of this machine.", _MACHINES)]
Workers: TypeAlias = Annotated[
    int | None, _number("N", "Wait for so many workers of other machines (tensorix worker).", _MACHINES)
]
Bind: TypeAlias = Annotated[
    str | None, _text("HOST:PORT", "Where to listen for workers (default: 127.0.0.1, any port).", _MACHINES)
]
WaitForWorkers: TypeAlias = Annotated[float | None, option_of_time("How long to wait for them", "60s", _MACHINES)]

LimitRequests: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--limit-requests",
        "--rpm",
        metavar="N",
        min=1,
        help="Requests a window (default: 60 at Tensorix; elsewhere unknown).",
        rich_help_panel=_LIMITS,
    ),
]
LimitTokens: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--limit-tokens",
        "--tpm",
        metavar="N",
        min=1,
        help="Tokens a window (default: 2,000,000 at Tensorix; elsewhere unknown).",
        rich_help_panel=_LIMITS,
    ),
]
LimitWindow: TypeAlias = Annotated[float | None, option_of_time("The window's length", "a minute", _LIMITS)]

ConnectTimeout: TypeAlias = Annotated[float, option_of_time("For DNS, TCP and TLS together", "10s", _TIMEOUTS)]
FirstTokenTimeout: TypeAlias = Annotated[
    float, option_of_time("Until a stream's first token, or a list of models", "60s", _TIMEOUTS)
]
ChunkTimeout: TypeAlias = Annotated[float, option_of_time("Between two chunks", "30s", _TIMEOUTS)]
Timeout: TypeAlias = Annotated[float, option_of_time("For the whole request", "5m", _TIMEOUTS)]
