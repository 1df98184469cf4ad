"""Dashboards: a static site that shows the metrics and opens from disk, without a network or server.

This package contains the pages, the charts and tables on them, and the code that replaces the site's
folder. Gold defines and computes the metrics; a page may only select, sort or sum them by week.
"""

OWNERS = ("team:product-analytics",)
