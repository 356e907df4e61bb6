"""Which stretch of a run its figures rest on."""

from __future__ import annotations

from tensorix_records.steady import Steady, without_preflight
from tensorix_records.timings import Window as CountedWindow
from tensorix_reports.frames._frames import RunFrames, Window

__all__ = ["counted_window", "instants_of"]


def counted_window(frames: RunFrames) -> Window:
    """From the end of the ramp to the last start of a request; the whole run where that would leave next to nothing."""
    if not len(frames.load):
        return Window(0.0, 0.0, "the whole run: it records no end of its ramp")
    steady = Steady.of(without_preflight(frames.requests), () if frames.is_traced else frames.events)
    start, end = frames.at(steady.window.start_unix_ns), frames.at(steady.window.end_unix_ns)
    why = "all of the spans: a service in production has no ramp" if frames.is_traced else steady.why
    return Window(start, end, why)


def instants_of(window: Window, frames: RunFrames) -> CountedWindow:
    """The same stretch in Unix nanoseconds."""
    start, end = (frames.origin_unix_ns + round(at * 1e9) for at in (window.start_s, window.end_s))
    return CountedWindow(start, max(start, end))
