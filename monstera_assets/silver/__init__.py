"""Silver tables: the activity of users and accounts, and the states derived from it.

Each table has its own module, with its declaration, the function that computes it and its checks.
The rules that decide states are in `lifecycle`, and metrics are in `gold`.
"""

OWNERS = ("team:analytics-engineering",)
