"""Documentation that is made from the code: pages of Markdown, a template each.

Belongs here: what turns declarations, transitions, the asset graph and the catalog into text. Does not
belong here: any fact about tables or states of its own; what is wrong on a page is mended where the
page has it from.
"""
