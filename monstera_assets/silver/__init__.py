"""Silver tables: user and account activity, and the states derived from it.

Each table has its own module with its declaration, the function that computes it and its checks.
The rules that determine states are in `lifecycle`, and metrics are in `gold`.
"""

OWNERS = ("team:analytics-engineering",)
