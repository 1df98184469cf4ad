"""The gold layer: business metrics, with one module per table.

The modules declare the metric tables and compute them from the silver tables. Lifecycle
state rules belong in `lifecycle`.
"""

OWNERS = ("team:product-analytics",)
