"""Dashboards: a static site of the metrics that opens from disk, without network or server.

This package contains the pages, the charts and tables on them, and the code that replaces the site's
folder. Metrics are computed and defined in gold: a page may only select, sort or sum them by week.
"""

OWNERS = ("team:product-analytics",)
