"""Properties: the set-based engine and the oracle agree on random histories.

Belongs here: what must hold for any facts. Does not belong here: single cases computed by hand (unit).
"""
