"""Write the files of small sources."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

Texts = Mapping[str, str]


def write_rows(path: Path, rows: Sequence[Texts], columns: Iterable[str] | None = None) -> Path:
    """Write a CSV file with the columns of its rows.

    Args:
        path: the file.
        rows: the texts by column; a row without a column has an empty text there.
        columns: the columns, if there are no rows or their order matters.
    """
    names = list(dict.fromkeys(columns or (column for row in rows for column in row)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_source(folder: Path, files: Mapping[str, Sequence[Texts]]) -> Path:
    """Write a source, with the rows by path of the file without `.csv`, and return its folder."""
    for name, rows in files.items():
        write_rows(folder / f"{name}.csv", rows)
    return folder
