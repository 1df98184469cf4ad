"""Benchmarks, each compared with a reference in the same run. They are not part of the package."""
