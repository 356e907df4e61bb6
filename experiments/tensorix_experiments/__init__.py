"""Drives runs one after the other, reads them and decides: the search for the highest load that meets objectives."""

from tensorix_experiments.capacity import Search, find_capacity

__all__ = ["Search", "find_capacity"]
