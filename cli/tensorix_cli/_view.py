"""What is shown while a run goes on: a block that renews itself on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tensorix_cli._output import complain, mute, say
from tensorix_cli._progress import Progress

__all__ = ["LiveView", "PlainView", "View", "view"]

_LEAST_COLUMNS = 72
_COLUMNS = 4
_PLAIN_EVERY_S = 2.0


class View(Protocol):
    """Something that shows a run; used as a context manager."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def draw(self, progress: Progress, now_ns: int) -> None:
        """Show how the run stands."""
        ...

    def note(self, text: str) -> None:
        """Say something once, above what is renewed."""
        ...


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _progress_words(progress: Progress, now_ns: int) -> str:
    if progress.started_ns is None:
        return "asking the server …"
    done = (
        f"{progress.finished} of {progress.requests} requests" if progress.requests else f"{progress.finished} requests"
    )
    time = _clock(progress.elapsed_s(now_ns))
    if progress.duration_s:
        time = f"{time} of {_clock(progress.duration_s)}"
    if progress.ended:
        return f"{done}, {time}, ended"
    if progress.stop_reason is not None:
        return f"{done}, {time}, ending: {progress.in_flight} in flight"
    left = progress.left_s(now_ns)
    about = "" if left is None else f", about {_clock(left)} left"
    return f"{done}, {time}{about}"


def _figures(progress: Progress, now_ns: int) -> list[list[tuple[str, str]]]:
    """What is shown of a run: rows of names and values, in both views the same."""
    rows = [
        [
            ("users", f"{progress.users}"),
            ("in flight", f"{progress.in_flight}"),
            ("requests/s", f"{progress.requests_a_second(now_ns):.1f}"),
            ("successful/s", f"{progress.successes_a_second(now_ns):.1f}"),
        ],
        [
            ("TTFT p50", _seconds(progress.ttft_s())),
            ("p95", _seconds(progress.ttft_s(0.95))),
            ("ITL p50", _milliseconds(progress.itl_s())),
            ("tokens/s", f"{progress.tokens_a_second(now_ns):,.0f}"),
        ],
        [
            ("succeeded", f"{progress.succeeded}"),
            ("429s", f"{progress.throttled}"),
            ("failed", f"{progress.failed}"),
        ],
        [("remaining", _remaining(progress))],
    ]
    client = []
    if (cpu := progress.client_cpu()) is not None:
        many = f" of {progress.processes} processes" if progress.processes > 1 else ""
        client.append(("client CPU", f"{cpu:.0%}{many}"))
    if (lag := progress.client_lag_s()) is not None:
        client.append(("loop lag", _milliseconds(lag)))
    if (late := progress.late_s()) is not None:
        client.append(("sent late p95", _milliseconds(late)))
    if progress.spent is not None:
        client.append(("spent", f"{progress.spent:.4g}"))
    return [*rows, client] if client else rows


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1e3:.1f} ms"


def _remaining(progress: Progress) -> str:
    if progress.remaining_requests is None:
        return "-"
    tokens = "" if progress.remaining_tokens is None else f", {progress.remaining_tokens:,} tokens"
    return f"{progress.remaining_requests:,} requests{tokens}"


def _cell(name: str, value: str) -> Text:
    return Text.assemble((f"{name} ", "dim"), (value, "bold"))


class PlainView:
    """A line every two seconds: for a file, a pipe or a simple terminal."""

    def __init__(self) -> None:
        self._next_ns = 0

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing is left on the screen to clear."""

    def draw(self, progress: Progress, now_ns: int) -> None:
        """Print the line, if it is time for it."""
        if progress.started_ns is None or now_ns < self._next_ns:
            return
        self._next_ns = now_ns + round(_PLAIN_EVERY_S * 1e9)
        figures = "; ".join(f"{name} {value}" for row in _figures(progress, now_ns) for name, value in row)
        say(f"{_progress_words(progress, now_ns)}; {figures}")

    def note(self, text: str) -> None:
        """Print it on standard error."""
        complain(text)


class _Console(Console):
    """A console that, when its reader has gone, says no more instead of ending the program."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        mute(sys.stdout, BrokenPipeError())


class LiveView:
    """A block of a few lines that renews itself. It owns no thread: it is drawn when it is told to."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._without_reader():
            self._live.__exit__(kind, error, at)

    def draw(self, progress: Progress, now_ns: int) -> None:
        """Renew the block."""
        rows = _figures(progress, now_ns)
        figures = Table.grid(padding=(0, 3))
        for _ in range(_COLUMNS):
            figures.add_column(no_wrap=True)
        # What remains is wide: on a row of its own the block fits a terminal of 80 columns.
        for row in rows[:3]:
            figures.add_row(*(_cell(name, value) for name, value in row))
        below = [Text("   ").join(_cell(name, value) for name, value in row) for row in rows[3:]]
        bar = ProgressBar(total=1.0, completed=progress.share_done(now_ns), width=min(60, self._console.width - 2))
        lines = Table.grid()
        # A row each: a bar alone does not end its line.
        lines.add_row(bar)
        lines.add_row(Text(_progress_words(progress, now_ns)))
        with self._without_reader():
            self._live.update(Group(lines, figures, *below), refresh=True)

    def note(self, text: str) -> None:
        """Print it above the block."""
        with self._without_reader():
            self._console.print(Text(f"tensorix: {text}", style="yellow"))

    @contextmanager
    def _without_reader(self) -> Iterator[None]:
        """A terminal that is gone ends nothing: what is left to show goes nowhere."""
        try:
            yield
        except OSError as error:
            self._console.quiet = True
            mute(sys.stdout, error)


def view() -> View:
    """The view that fits standard output."""
    console = _Console(highlight=False)
    # In fewer columns the table would cut its figures off; lines wrap.
    if sys.stdout.isatty() and not console.is_dumb_terminal and console.width >= _LEAST_COLUMNS:
        return LiveView(console)
    return PlainView()
