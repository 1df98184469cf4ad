"""Read a folder of files into raw rows in DuckDB.

This package finds the files of a source, checks that they are readable, and parses records. It does
not interpret values, validate rows or depend on Dagster.
"""
