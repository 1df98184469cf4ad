"""Generate Markdown pages from the code, with one template per page.

This package converts declarations, transitions, the asset graph and the product catalog into text. The
package does not contain facts about tables or states. To correct a page, change the declaration that
contains the fact.
"""
