"""Declare tables, and write and read them in DuckDB.

This package contains table declarations, the DuckDB connection, the transactional writer, the IO
manager and `table_asset`. The contents of the tables are defined in the packages bronze, silver and
gold, and the rules for states in the package lifecycle.
"""
