"""The warehouse: how tables are declared, written and read in DuckDB.

Belongs here: table declarations, the DuckDB connection, the transactional writer, the IO manager and
what turns a declared table and a pure function into an asset. Does not belong here: what any table
contains (bronze, silver, gold) or how a state is decided (lifecycle).
"""
