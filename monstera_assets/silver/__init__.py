"""Silver: what people did, and in which state that leaves them.

Belongs here: one module a table, with its declaration, the function that computes it and the checks
that are its own. Does not belong here: the rules of the states (lifecycle) and metrics (gold).
"""

OWNERS = ("team:analytics-engineering",)
