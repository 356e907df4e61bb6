"""The options of `tensorix load`, each with its form and its help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from tensorix_api.errors import SettingsError
from tensorix_cli import _options

__all__ = [
    "BaseUrl",
    "Body",
    "CaBundle",
    "ChunkTimeout",
    "ConnectTimeout",
    "Duration",
    "FirstTokenTimeout",
    "Headers",
    "Label",
    "LimitRequests",
    "LimitTokens",
    "LimitWindow",
    "MaxTokens",
    "Mix",
    "Model",
    "Out",
    "PromptFiles",
    "Prompts",
    "Reported",
    "Requests",
    "SpawnRate",
    "Stream",
    "Temperature",
    "Timeout",
    "Users",
    "Yes",
    "option_of_time",
]

_TRAFFIC, _REQUEST, _LIMITS, _TIMEOUTS = "Traffic", "Request", "Limits of the key", "Timeouts"


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
    typer.Option("--prompt-file", metavar="FILE", help="A text file, one prompt a line.", rich_help_panel=_REQUEST),
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

LimitRequests: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Requests a window (default: 60 at Tensorix; elsewhere unknown).",
        rich_help_panel=_LIMITS,
    ),
]
LimitTokens: TypeAlias = Annotated[
    int | None,
    typer.Option(
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
