"""Dashboards: a static site that shows the metrics and can be opened from disk, without a network.

This package contains the pages, the charts and tables on them, and the code that replaces the site's
folder. Gold defines and computes the metrics. Pages may only select and sort them or sum them by
week.
"""

OWNERS = ("team:product-analytics",)
