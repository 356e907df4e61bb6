"""When somebody is told: rules for Prometheus, the same verdicts without it, and a webhook."""
