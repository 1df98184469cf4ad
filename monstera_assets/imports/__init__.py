"""Turn tools' exports into a source folder.

Each tool has one module, which says how its files are recognised and what becomes of their columns.
Everything after is shared: `raw_staging` reads raw files once into rows of a common shape, `identity`,
`entity_versions`, `event_rows` and `billing_facts` compute the rows of the source, and `landing`
writes them.

Bronze reads the source folder as it reads any other. In the asset graph, `landed_source` is the asset
that imports, and `ledger_checks` has its checks.
"""

OWNERS = ("team:data-platform",)
LANDED_SOURCE = "landed_source"
"""The name of the asset that imports."""
