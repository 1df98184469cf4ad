"""Generate Markdown pages from the code, with one template per page.

This package turns declarations, transitions, the asset graph and the product catalog into text. It
contains no facts about tables or states, so to correct a page, change the declaration behind it.
"""
