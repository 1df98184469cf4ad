"""Gold: the metrics that a company steers by, one module a table.

Belongs here: declarations of metric tables and the functions that compute them from silver. Does
not belong here: anything that decides a state (lifecycle).
"""

OWNERS = ("team:product-analytics",)
