"""The experiment on a limiter: few requests, sent so that what comes of them tells the kinds of limiter apart."""

from tensorix_experiments.limits._bounds import Bounds
from tensorix_experiments.limits._experiment import Ended, LimitsExperiment, run_limits
from tensorix_experiments.limits._question import MOST_TOKENS

__all__ = ["MOST_TOKENS", "Bounds", "Ended", "LimitsExperiment", "run_limits"]
