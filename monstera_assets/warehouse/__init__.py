"""Declare tables, and write and read them in DuckDB.

In this package: table declarations, the DuckDB connection, the transactional writer, the IO manager
and `table_asset`. Elsewhere: the contents of tables (bronze, silver, gold) and the rules for states
(lifecycle).
"""
