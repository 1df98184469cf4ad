"""Read source files into raw rows in DuckDB.

This package finds a source's files, checks that the files are readable, and parses records. The package
does not interpret values, validate rows or depend on Dagster.
"""
