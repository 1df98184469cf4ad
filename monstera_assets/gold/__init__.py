"""Gold layer: business metrics, one module per table.

Contains the declarations of metric tables and the functions that compute them from silver. State
rules belong in `lifecycle`.
"""

OWNERS = ("team:product-analytics",)
