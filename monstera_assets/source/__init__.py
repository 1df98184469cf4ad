"""From a folder of files to raw rows inside DuckDB.

Belongs here: which files a source has, whether they can be read, and how their records become rows.
Does not belong here: what a value means, which rows are valid, and anything of the orchestrator.
"""
