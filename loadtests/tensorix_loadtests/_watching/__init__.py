"""How a run is watched while it goes on: a tab on Locust's web page, metrics for Prometheus and to a collector.

All of it looks on as `Listener`s of a run, in the run's own event loop; none of it starts a thread.
"""

from tensorix_loadtests._watching._watch import Watch

__all__ = ["Watch"]
