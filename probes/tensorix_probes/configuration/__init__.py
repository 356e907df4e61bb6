"""The configuration as people write it: TOML in, `tensorix_probes.settings` out, and every mistake with its line."""
