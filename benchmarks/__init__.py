"""Benchmarks, each relative to a reference in the same run. They are not part of the package."""
