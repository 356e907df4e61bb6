"""What probes found, in the forms that others read."""
