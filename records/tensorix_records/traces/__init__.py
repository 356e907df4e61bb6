"""Spans of services in production as records: what their chat calls were, in the columns of a load test's requests.

`write_trace_run` reads files of OTLP JSON, as OpenTelemetry's collectors write them, and makes a run folder that every
report takes.
"""

from tensorix_records.traces._run import TraceRun, write_trace_run
from tensorix_records.traces._seen import Seen

__all__ = ["Seen", "TraceRun", "write_trace_run"]
