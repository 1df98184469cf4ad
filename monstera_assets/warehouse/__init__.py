"""Declare tables, and read and write them in DuckDB.

This package contains table declarations, the DuckDB connection, the transactional writer, the IO
manager and `table_asset`. The bronze, silver and gold packages define what the tables contain, and
the lifecycle package defines the rules for states.
"""
