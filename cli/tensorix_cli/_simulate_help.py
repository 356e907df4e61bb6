"""The help of `tensorix simulate`: what each setting may be is asked of the simulator, and only when help is wanted."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import fields
from typing import Any

from typer.core import TyperCommand

from tensorix_cli._output import say

__all__ = ["EXAMPLES", "SimulateCommand"]

EXAMPLES = (
    ("The documented limits, and every answer at once:", "tensorix simulate --ttft 0 --between-tokens 0"),
    ("Latency that grows with load, and a knee to find:", "tensorix simulate --preset fast-chat --rpm none"),
    ("Bad days:", "tensorix simulate --fault 'status 503, rate 5%' --fault 'outage, from 20s to 35s'"),
    ("A gateway's ways, on HTTPS:", "tensorix simulate --preset litellm --tls valid --ca-file ca.pem"),
    ("A second's limit inside the minute:", "tensorix simulate --limit '2 requests/1s' --retry-after honest"),
    ("All settings as a file:", "tensorix simulate --print-settings-toml > settings.toml"),
    ("And from it, one of them changed:", "tensorix simulate --settings settings.toml --set idle_s=5"),
)
_KEYS = "Any key is valid unless set otherwise, but sk-invalid is answered with 401 and sk-no-credit with 402."


class SimulateCommand(TyperCommand):
    """A command whose help ends with the forms of faults and limits, and with examples."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        for parameter in self.params:
            parameter.help = _completed(parameter.name or "", parameter.help or "")  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)
        say(_after())


def _completed(name: str, help_text: str) -> str:
    """The help of an option that is a setting, with what it may be and is by default."""
    from tensorix_simulator.presets import PRESETS
    from tensorix_simulator.settings import SimulatorSettings
    from tensorix_simulator.settings_file import allowed

    if name == "presets":
        return f"{help_text}: {', '.join(PRESETS)}."
    if help_text.endswith(".") or name not in {known.name for known in fields(SimulatorSettings)}:
        return help_text
    default = getattr(SimulatorSettings(), name)
    words, one_of, choices = allowed(name).partition("one of ")
    if one_of and not words:
        default = "null" if default is None else default
        marked = [f"{one} (default)" if one == default else one for one in choices.split(", ")]
        return f"{help_text}: {', '.join(marked)}."
    shown = ", ".join(default) if isinstance(default, tuple) else default
    return f"{help_text} (default: {shown})."


def _after() -> str:
    from tensorix_simulator.faults import fault_text
    from tensorix_simulator.limits import limit_text

    width = max(60, min(120, shutil.get_terminal_size((100, 24)).columns)) - 1

    def listed(rows: dict[str, str]) -> list[str]:
        longest = max(map(len, rows))
        return [
            line
            for form, meaning in rows.items()
            for line in textwrap.wrap(
                f"{form.ljust(longest)}  {meaning}",
                width - 2,
                initial_indent="  ",
                subsequent_indent=" " * (longest + 4),
            )
        ]

    parts = [
        [_KEYS],
        ["Faults (--fault; a request may ask for one with the header x-simulator-fault):", *listed(fault_text.FORMS)],
        ["and after any of them, parted by commas:", *listed(fault_text.CLAUSES)],
        ["Limits (--limit):", *textwrap.wrap("; ".join(limit_text.FORMS), width - 2, **_INDENT)],
        ["Every other setting: --print-settings-toml lists them with what each may be; --set changes one."],
        ["Examples:", *(line for why, command in EXAMPLES for line in (f"  # {why}", f"  {command}"))],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


_INDENT: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "  "}
