"""The bad days: what goes wrong, when and to whom."""
