"""Silver: activity of users and accounts, and the states that follow from it.

Belongs here: one module per table, with its declaration, the function that computes it and its checks.
Does not belong here: the rules of the states (lifecycle) and metrics (gold).
"""

OWNERS = ("team:analytics-engineering",)
