"""Keeping what is sent with one key within a share of its limits. Pure: the time is an argument, monotonic ns.

`KeyPace` is asked before each request and told what became of it. Requests go evenly: no kind of limiter refuses an
even stream below its rate, while a burst that one kind lets pass is over the limit of another.

| module | what it knows |
| --- | --- |
| `_keeper` | when the next may go, by the facts that it is told about the limiter |
| `_from_headers`, `_from_refusals` | which facts about the limiter follow from responses |
| `_cadence` | when the next may go so that the rate is kept |
| `_tally` | what was sent in the last window |
| `_flow` | one limit, of requests or tokens: cadence and tally together |
| `_charges` | how many tokens a request will be charged, learned from those before it |
| `_remaining` | what the headers say is left, and whether that can be so |
| `_refusals` | what a 429 says about the limit that was met |
"""

from tensorix_loadtests._pacing._pace import KeyPace

__all__ = ["KeyPace"]
