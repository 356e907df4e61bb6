"""Which stretch of a run its figures rest on."""

from __future__ import annotations

import numpy as np

from tensorix_records.timings import Window as CountedWindow
from tensorix_reports._frames import RunFrames, Window

__all__ = ["counted_window", "instants_of"]


def counted_window(frames: RunFrames) -> Window:
    """From the end of the ramp to the last start of a request; the whole run where that would leave next to nothing."""
    at = frames.load["at_s"].to_numpy(float)
    first, last = (float(at.min()), float(at.max())) if len(at) else (0.0, 0.0)
    if frames.is_traced:
        return Window(first, last, "all of the spans: a service in production has no ramp")
    steady = [event["at_s"] for event in frames.of("phase") if event.get("name") == "steady"]
    if not steady:
        return Window(first, last, "the whole run: it records no end of its ramp")
    if np.count_nonzero(at >= steady[0]) < max(2, len(at) // 10):
        return Window(first, last, "the whole run: nearly all requests started before all users did")
    if not (at < steady[0]).any():
        return Window(first, last, "the whole run: no request started before all users had")
    return Window(float(steady[0]), last, "from when all users had started to the last start of a request")


def instants_of(window: Window, frames: RunFrames) -> CountedWindow:
    """The same stretch in Unix nanoseconds."""
    start, end = (frames.origin_unix_ns + round(at * 1e9) for at in (window.start_s, window.end_s))
    return CountedWindow(start, max(start, end))
