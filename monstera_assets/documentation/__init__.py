"""Generate Markdown pages from the code, one template per page.

This package turns declarations, transitions, the asset graph and the product catalog into text. It
states no facts about tables or states itself: to correct a page, change the declaration it comes from.
"""
