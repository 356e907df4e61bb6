"""What a search for the highest load found, and its page."""

from tensorix_reports.capacity._report import (
    CAPACITY_FORMAT,
    Capacity,
    CapacityPaths,
    Found,
    LimitFound,
    Step,
    write_capacity,
)

__all__ = ["CAPACITY_FORMAT", "Capacity", "CapacityPaths", "Found", "LimitFound", "Step", "write_capacity"]
