"""Read a folder of files into raw rows in DuckDB.

Belongs here: finding the files of a source, checking that they are readable, and parsing records.
Does not belong here: interpreting values, validating rows, and anything that depends on Dagster.
"""
