"""A run as frames: what every report of a run is computed from."""

from tensorix_reports.frames._frames import (
    OUTCOMES,
    PREFLIGHT,
    RunFrames,
    Window,
    kind_of,
    kind_order,
    mapping,
    read_frames,
    reported,
    whole,
)
from tensorix_reports.frames._held import Codes, smallest
from tensorix_reports.frames._lost import clock_steps
from tensorix_reports.frames._requests import Requests
from tensorix_reports.frames._steady import counted_window, instants_of
from tensorix_reports.frames._together import together

__all__ = [
    "OUTCOMES",
    "PREFLIGHT",
    "Codes",
    "Requests",
    "RunFrames",
    "Window",
    "clock_steps",
    "counted_window",
    "instants_of",
    "kind_of",
    "kind_order",
    "mapping",
    "read_frames",
    "reported",
    "smallest",
    "together",
    "whole",
]
