"""The options of `tensorix simulate`. None means: as the settings file says, else the simulator's default.

An option that is a setting has the setting's name as its parameter's; `_simulate_help` adds to its help what it may be
and what it is by default, as the simulator that is installed says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from tensorix_api.errors import SettingsError
from tensorix_cli._load_options import option_of_time
from tensorix_cli._options import duration

__all__ = [
    "Assigned",
    "BetweenTokens",
    "Burst",
    "CaFile",
    "Charging",
    "ControlPort",
    "CreditTokens",
    "ErrorRate",
    "Faults",
    "HeaderLie",
    "Headers",
    "Host",
    "Idle",
    "Latency",
    "Limiter",
    "Models",
    "MoreLimits",
    "OverLimit",
    "Port",
    "Presets",
    "PrintSettings",
    "PrintToml",
    "Queue",
    "ReasoningTokens",
    "ReplyTokens",
    "RetryAfter",
    "Rpm",
    "Seed",
    "SettingsFile",
    "Slots",
    "Style",
    "Tls",
    "Tpm",
    "TruthFile",
    "Ttft",
    "ValidKeys",
    "Window",
]

_SERVER, _LIMITS, _HEADERS = "Server", "Limits of a key", "Headers and bodies"
_REPLIES, _FAULTS, _KEYS, _CONNECTIONS = "Replies", "Faults", "Keys", "Connections and TLS"


def _number_or_none(text: Any) -> Any:
    """A whole number, or the text `null` for `none`."""
    if not isinstance(text, str) or text in ("none", "null"):
        return text if not isinstance(text, str) else "null"
    if not text.isascii() or not text.isdecimal() or len(text) > 16:
        raise typer.BadParameter(f"{text!r} is no whole number, and not none")
    return int(text)


def _time_or_none(text: Any) -> Any:
    """Seconds, or the text `null` for `none`."""
    if text in ("none", "null"):
        return "null"
    try:
        return duration(text) if isinstance(text, str) else text
    except SettingsError as error:
        raise typer.BadParameter(f"{error}, or none") from None


def _limit(help_text: str) -> Any:
    return _number("N|none", help_text, _LIMITS)


def _number(metavar: str, help_text: str, panel: str, flag: str | None = None) -> Any:
    flags = (flag,) if flag else ()
    return typer.Option(*flags, parser=_number_or_none, metavar=metavar, help=help_text, rich_help_panel=panel)


def _text(flag: str, metavar: str, help_text: str, panel: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=help_text, rich_help_panel=panel)


def _count(flag: str, help_text: str, panel: str) -> Any:
    return typer.Option(flag, metavar="N", min=0, help=help_text, rich_help_panel=panel)


Port: TypeAlias = Annotated[
    int, typer.Option(metavar="N", min=0, max=65535, help="0 takes a free one.", rich_help_panel=_SERVER)
]
Host: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS", help="Where to listen: 0.0.0.0 lets everybody in who reaches it.", rich_help_panel=_SERVER
    ),
]
ControlPort: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=65535,
        help="For settings and truth, on loopback; 0: a free one.",
        rich_help_panel=_SERVER,
    ),
]
SettingsFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="JSON or TOML; - for standard input.", rich_help_panel=_SERVER),
]
Presets: TypeAlias = Annotated[
    list[str] | None, _text("--preset", "NAME", "Settings by name, put over the file's; repeatable", _SERVER)
]
Assigned: TypeAlias = Annotated[
    list[str] | None, _text("--set", "NAME=VALUE", "Any setting, put over everything; repeatable.", _SERVER)
]
PrintSettings: TypeAlias = Annotated[
    bool,
    typer.Option("--print-settings", help="Print all settings as JSON, and do not serve.", rich_help_panel=_SERVER),
]
PrintToml: TypeAlias = Annotated[
    bool,
    typer.Option("--print-settings-toml", help="The same as TOML, with what each may be.", rich_help_panel=_SERVER),
]
TruthFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--truth", metavar="FILE", help="Append what was done to each request, as JSON lines.", rich_help_panel=_SERVER
    ),
]

Rpm: TypeAlias = Annotated[Any, _limit("Requests a window")]
Tpm: TypeAlias = Annotated[Any, _limit("Tokens a window")]
Window: TypeAlias = Annotated[float | None, option_of_time("The length of the window", "60s", _LIMITS)]
Limiter: TypeAlias = Annotated[str | None, _text("--limiter", "KIND", "How rpm and tpm are counted", _LIMITS)]
Burst: TypeAlias = Annotated[
    Any,
    _number("N|none", "With token_bucket, requests that may come at once: from 1 on, or none: rpm (default).", _LIMITS),
]
MoreLimits: TypeAlias = Annotated[
    list[str] | None, _text("--limit", "TEXT", "A limit besides, as '2 requests/1s'; repeatable, see below.", _LIMITS)
]
OverLimit: TypeAlias = Annotated[str | None, _text("--over-limit", "HOW", "What becomes of a request over it", _LIMITS)]
Charging: TypeAlias = Annotated[str | None, _text("--charging", "HOW", "Which tokens count", _LIMITS)]
RetryAfter: TypeAlias = Annotated[str | None, _text("--retry-after", "HOW", "The header of a 429", _LIMITS)]

Headers: TypeAlias = Annotated[str | None, _text("--headers", "KIND", "The rate-limit headers", _HEADERS)]
HeaderLie: TypeAlias = Annotated[str | None, _text("--header-lie", "KIND", "What is wrong with them", _HEADERS)]
Style: TypeAlias = Annotated[str | None, _text("--style", "KIND", "Whose bodies are imitated", _HEADERS)]

Models: TypeAlias = Annotated[list[str] | None, _text("--model", "NAME", "A model that there is; repeatable", _REPLIES)]
Latency: TypeAlias = Annotated[str | None, _text("--latency", "KIND", "What times depend on", _REPLIES)]
Ttft: TypeAlias = Annotated[
    str | None, _text("--ttft", "TIMES", "With independent: to the first token, as 250ms", _REPLIES)
]
BetweenTokens: TypeAlias = Annotated[
    str | None, _text("--between-tokens", "TIMES", "With independent: between two tokens", _REPLIES)
]
Slots: TypeAlias = Annotated[
    Any, _number("N|none", "Completions worked on at once: from 1 on, or none: all (default).", _REPLIES)
]
Queue: TypeAlias = Annotated[
    Any,
    _number("N|none", "How many may wait for a slot, one more gets 503: from 0 on, or none: all (default).", _REPLIES),
]
ReplyTokens: TypeAlias = Annotated[
    str | None, _text("--reply-tokens", "COUNTS|none", "Tokens of a reply, or none: max_tokens (default).", _REPLIES)
]
ReasoningTokens: TypeAlias = Annotated[
    str | None, _text("--reasoning-tokens", "COUNTS", "Of these, reasoning that comes first", _REPLIES)
]
Seed: TypeAlias = Annotated[
    int | None, _count("--seed", "Of texts, lengths, times and faults: from 0 to 2**63 (default: 0).", _REPLIES)
]

Faults: TypeAlias = Annotated[
    list[str] | None,
    _text("--fault", "TEXT", "What goes wrong, as 'status 503, rate 5%'; repeatable, see below.", _FAULTS),
]
ErrorRate: TypeAlias = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Chat completions answered with 500, from 0 to 1", rich_help_panel=_FAULTS),
]

ValidKeys: TypeAlias = Annotated[
    list[str] | None,
    _text(
        "--valid-key", "KEY", "A key, or its alias, beside which none is valid; repeatable; none: any (default).", _KEYS
    ),
]
CreditTokens: TypeAlias = Annotated[
    Any, _number("N|none", "Tokens a key has paid for, then 402; or none: endless (default).", _KEYS)
]

Idle: TypeAlias = Annotated[
    Any,
    typer.Option(
        parser=_time_or_none,
        metavar="TIME|none",
        help="Close a connection on which nothing came for so long, or none: never (default).",
        rich_help_panel=_CONNECTIONS,
    ),
]
Tls: TypeAlias = Annotated[
    str | None,
    _text(
        "--tls", "KIND", "HTTPS, with a certificate that is valid, expired, wrong_name or unknown_chain.", _CONNECTIONS
    ),
]
CaFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="With --tls: write the certificate that clients are to trust there (default: a temporary file).",
        rich_help_panel=_CONNECTIONS,
    ),
]
