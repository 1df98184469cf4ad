"""Property tests: the set-based engine and the oracle agree on random histories.

These tests cover what must hold for any facts. Single cases with results computed by hand are in
`unit`.
"""
