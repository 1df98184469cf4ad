"""Store declared tables as Apache Iceberg tables whose days are replaced in one commit.

An engine such as Spark writes Parquet files, and this process commits them. The package contains the
catalog, the mapping from declarations to Iceberg schemas, commits, the list of a table's data files
and the removal of files that no table refers to. It needs the extra `spark` and is imported only if
it is used. It does not contain expressions or anything that computes rows.
"""
