"""Dashboards: a static site that shows metrics and opens from disk without a network or server.

This package contains the pages, the charts and tables on them, and the code that replaces the site's
folder. Gold defines and computes the metrics. Pages may only select metrics, sort them or sum
them by week.
"""

OWNERS = ("team:product-analytics",)
