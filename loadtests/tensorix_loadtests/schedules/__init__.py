"""When each request of an open loop is due, and what it is to be: pure, from a plan and a seed, or from a trace.

Importing this starts no Locust and patches nothing.
"""

from tensorix_loadtests.schedules._arrival import Arrival
from tensorix_loadtests.schedules._schedule import Survey, arrivals, check_schedule, survey

__all__ = ["Arrival", "Survey", "arrivals", "check_schedule", "survey"]
