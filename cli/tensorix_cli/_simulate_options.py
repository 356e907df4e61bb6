"""The options of `tensorix simulate`. None means: as the settings file says, else the simulator's default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from tensorix_cli._load_options import option_of_time

__all__ = [
    "BetweenTokens",
    "ControlPort",
    "ErrorRate",
    "Host",
    "Port",
    "ReplyTokens",
    "RetryAfter",
    "Rpm",
    "Seed",
    "SettingsFile",
    "Tpm",
    "TruthFile",
    "Ttft",
    "Window",
]

_LIMITS, _REPLIES = "Limits of a key", "Replies"

Port: TypeAlias = Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0 takes a free one.")]
Host: TypeAlias = Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")]
ControlPort: TypeAlias = Annotated[
    int, typer.Option(metavar="N", min=0, max=65535, help="For the settings and the truth, on loopback; 0: a free one.")
]
SettingsFile: TypeAlias = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE", help="A JSON file; options given here go first.")
]
TruthFile: TypeAlias = Annotated[
    Path | None, typer.Option("--truth", metavar="FILE", help="Log what was done to each request, as JSON lines.")
]

Rpm: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Requests a window (default: 60).", rich_help_panel=_LIMITS)
]
Tpm: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Tokens a window (default: 2000000).", rich_help_panel=_LIMITS)
]
Window: TypeAlias = Annotated[float | None, option_of_time("The length of the window", "60s", _LIMITS)]
RetryAfter: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="HOW", help="On a 429: none (default), honest or fixed60.", rich_help_panel=_LIMITS),
]

Ttft: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIMES", help="Time to first token, as 'lognormal(250ms, 0.4)'.", rich_help_panel=_REPLIES),
]
BetweenTokens: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TIMES", help="Between two tokens, as '20ms'.", rich_help_panel=_REPLIES)
]
ReplyTokens: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="COUNTS", help="Tokens of a reply (default: max_tokens).", rich_help_panel=_REPLIES),
]
ErrorRate: TypeAlias = Annotated[
    float | None, typer.Option(metavar="SHARE", help="Answered with 500, from 0 to 1.", rich_help_panel=_REPLIES)
]
Seed: TypeAlias = Annotated[
    int | None, typer.Option(metavar="N", help="Of texts, times and errors.", rich_help_panel=_REPLIES)
]
