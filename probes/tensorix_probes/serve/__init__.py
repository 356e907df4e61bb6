"""The long-running probe: a schedule, a thread a target, metrics, a status page, and an end in order."""
