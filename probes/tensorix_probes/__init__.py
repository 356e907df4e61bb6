"""Synthetic probes: is the API up, is it quick, does it keep its promises."""

from tensorix_probes._once import run_once
from tensorix_probes.result import ProbeResult

__all__ = ["ProbeResult", "run_once"]
