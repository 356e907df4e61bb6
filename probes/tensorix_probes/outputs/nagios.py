"""What one run found as Nagios, Icinga and their kin read it: a line with figures, and a code of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tensorix_probes.result import Round, State
from tensorix_probes.settings import Target

__all__ = ["CRITICAL", "OK", "UNKNOWN", "WARNING", "nagios"]

OK, WARNING, CRITICAL, UNKNOWN = range(4)
_NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_CODES = {
    State.UP: OK,
    State.DEGRADED: WARNING,
    State.PAYMENT: WARNING,
    State.DOWN: CRITICAL,
    State.INCONCLUSIVE: UNKNOWN,
}
_WORST = (OK, UNKNOWN, WARNING, CRITICAL)
_MOST_TEXT = 300


def nagios(rounds: Sequence[Round], targets: Sequence[Target]) -> tuple[str, int]:
    """The line and the code: 0 up, 1 degraded or out of credit, 2 down, 3 inconclusive; the worst of several."""
    code = max((_CODES[one.state] for one in rounds), key=_WORST.index, default=UNKNOWN)
    words = "; ".join(f"{one.target} {one.state}" + (f": {_plain(one.reason)}" if one.reason else "") for one in rounds)
    by_name = {target.name: target for target in targets}
    several = len(rounds) > 1
    figures = [
        f"'{one.target}_{figure}" if several else f"'{figure}"
        for one in rounds
        for figure in _figures(one, by_name[one.target])
    ]
    text = words or "nothing was probed"
    return f"TENSORIX {_NAMES[code]} - {text[:_MOST_TEXT]}" + (f" | {' '.join(figures)}" if figures else ""), code


def _plain(text: str) -> str:
    """What may stand before the bar."""
    return "".join(character if character.isprintable() else " " for character in text).replace("|", "/")


def _figures(one: Round, target: Target) -> Iterator[str]:
    """Figures as `label'=value[unit];warning;critical;least`, without the quote at the beginning."""
    yield f"duration'={one.duration_ns / 1e9:.6f}s;;;0"
    phases = {result.check: result.phases.seconds() for result in one.results}
    slow, timeouts = target.slow, target.timeouts
    for label, check, phase, warning, critical in (
        ("connect", "tls", "connect", slow.connect_s, timeouts.connect_s),
        ("models", "models", "total", slow.models_s, timeouts.total_s),
        ("chat", "chat", "total", slow.chat_s, timeouts.total_s),
        ("ttft", "stream", "first_token", slow.first_token_s, timeouts.first_token_s),
    ):
        if (seconds := phases.get(check, {}).get(phase)) is not None:
            yield f"{label}'={seconds:.6f}s;{'' if warning is None else f'{warning:g}'};{critical:g};0"
    yield f"requests'={one.spent.requests};;;0"
    yield f"tokens'={one.spent.tokens};;;0"
