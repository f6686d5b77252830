"""Suites: the named comparisons, as TOML files."""
