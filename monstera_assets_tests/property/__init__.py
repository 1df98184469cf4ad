"""Properties: the set-based engine and the oracle agree on random histories.

Belongs here: what must hold of any facts. Does not belong here: single cases with numbers worked out
by hand (unit).
"""
