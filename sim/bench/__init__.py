"""Benchmarks, each beside its own floor in the same run. Light to import: its workers start fast."""
