"""Benchmarks, each compared with a reference in the same run. The package does not include them."""
