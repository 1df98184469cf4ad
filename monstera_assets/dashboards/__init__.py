"""Dashboards: a static site of the metrics, made from the tables and read without network or server.

Belongs here: what is shown on which page, how charts and tables look, and how the site's folder is
replaced. Does not belong here: anything that computes a metric (gold). A page may pick, add up over a
week or put in order what the tables say; what a number means is said by the metric's declaration.
"""

OWNERS = ("team:product-analytics",)
