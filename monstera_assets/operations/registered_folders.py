"""Record the folders that contain a warehouse's data, in text files next to the database.

`monstera forget` must find the folders, wherever earlier commands wrote them.
"""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4


def register(database: Path, suffix: str, folder: Path) -> None:
    """Add a folder to a register.

    Args:
        database: the warehouse's DuckDB file.
        suffix: the suffix of the register's name, such as `.exports`.
        folder: the folder.
    """
    path = _path(database, suffix)
    folders = sorted({*registered(database, suffix), folder.absolute()})
    incoming = path.with_name(f"{path.name}.{uuid4().hex[:8]}")
    incoming.write_text("".join(f"{each}\n" for each in folders), encoding="utf-8")
    incoming.replace(path)


def registered(database: Path, suffix: str) -> list[Path]:
    """Return the folders in a register."""
    path = _path(database, suffix)
    if not path.exists():
        return []
    return [Path(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _path(database: Path, suffix: str) -> Path:
    return database.absolute().with_name(database.name + suffix)
