"""Turn tools' exports into a source folder.

Each tool has one module, which says how its files are recognised and what becomes of their columns.
Everything after is shared: `staging` reads raw files once into rows of a common shape, `identity`,
`entities` and `events` compute the rows of the source, and `landing` writes them.

Nothing here belongs to the asset graph: bronze reads the source folder as it reads any other.
"""
