"""Define silver tables for user and account activity and for the states derived from activity.

Each table has its own module with its declaration, the function that computes it and its checks.
The rules that determine states are in `lifecycle`, and metrics are in `gold`.
"""

OWNERS = ("team:analytics-engineering",)
