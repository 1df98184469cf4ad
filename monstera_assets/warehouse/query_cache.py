"""Cache compiled queries on disk, with one query per table, policy and code version.

If a query is in the cache, its expression does not have to be built. Each subfolder of the user's
cache folder is named after a fingerprint of everything that the SQL depends on, so cached queries
never become outdated. A subfolder contains one file per query. Files are written atomically and
shared by all processes. If the folder is not writable, each process compiles the queries that it
needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

import ibis.expr.types as ir

import monstera_assets
from monstera_assets.warehouse.compiler import Query, compile_query
from monstera_assets.warehouse.stages import gc_disabled

_PACKAGE = Path(monstera_assets.__file__).parent
_LIBRARIES = ("ibis-framework", "sqlglot", "duckdb")
_FINGERPRINTS_KEPT = 32


class QueryCache:
    """A cache of queries by name, in memory and optionally on disk.

    Args:
        folder: the folder for the files (see `open_cache`), or None to cache only in memory.
        compile_query: the compiler of the engine that runs the queries.
    """

    def __init__(
        self,
        folder: Path | None = None,
        compile_query: Callable[[ir.Table], Query] = compile_query,
    ) -> None:
        self.compile_query = compile_query
        self._folder = folder
        self._queries: dict[str, Query] = {}

    def get(self, name: str, compile_it: Callable[[], Query], *, keep: bool = True) -> Query:
        """Return the query with this name, compiling it if it is not cached.

        Args:
            name: the file name without its extension: a table name, optionally with a suffix.
            compile_it: a function that compiles the query.
            keep: whether to cache the query on disk. The fingerprint must cover everything that the
                query depends on.
        """
        if name in self._queries:
            return self._queries[name]
        path = self._folder / f"{name}.json" if self._folder and keep else None
        query = _read(path) if path else None
        if query is None:
            with gc_disabled():
                query = compile_it()
            if path:
                write_privately(path, json.dumps(asdict(query)))
        self._queries[name] = query
        return query

    def select(self, name: str, build: Callable[[], ir.Table], *depends_on: object) -> str:
        """Return the SQL for an expression that also depends on values known only during a run.

        Args:
            name: the prefix of the file name.
            build: a function that builds the expression.
            depends_on: the values, such as schemas and dates, which are compared by their `repr`.
        """
        digest = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:16]
        return self.get(f"{name}.{digest}", lambda: self.compile_query(build())).select


def open_cache(
    *depends_on: str, compile_query: Callable[[ir.Table], Query] = compile_query
) -> QueryCache:
    """Open the cache for the current versions of the code, compiler libraries and settings.

    Args:
        depends_on: the text of each setting that queries depend on, such as the policy.
        compile_query: the compiler of the engine that runs the queries.
    """
    root = cache_folder()
    name = _running_code((*depends_on, compile_query.__name__))
    if root is None or name is None:
        return QueryCache(None, compile_query)
    folder = root / name
    try:
        if folder.exists():
            os.utime(folder)  # the folders used least recently are deleted first
        else:
            make_private(root)
            _prune(root)
            make_private(folder)
    except OSError:
        return QueryCache(None, compile_query)
    is_safe = is_private(root) and is_private(folder)
    return QueryCache(folder if is_safe else None, compile_query)


def cache_folder(name: str = "queries") -> Path | None:
    """Return a folder in the user's cache folder, or None if the user has no home folder."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "monstera" / name if base.is_absolute() else None


@cache
def _running_code(depends_on: tuple[str, ...]) -> str | None:
    """Return the fingerprint of the code that this process runs, or None without source files.

    A process reads the files once, because a change to a file does not affect a running process.
    """
    sources = sorted(_PACKAGE.rglob("*.py"))
    return fingerprint(sources, depends_on) if sources else None


def fingerprint(sources: Iterable[Path], depends_on: Iterable[str]) -> str:
    """Return a digest of the source files, the compiler library versions and the given strings."""
    digest = hashlib.sha256()
    parts = [
        sys.version,
        *(f"{name} {version(name)}" for name in _LIBRARIES),
        *depends_on,
    ]
    for part in parts:
        digest.update(f"{len(part)} {part}\n".encode())
    for source in sources:
        text = source.read_bytes()
        digest.update(f"{source.relative_to(_PACKAGE)} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()[:32]


def _read(path: Path) -> Query | None:
    """Return the query in a file, or None if the file is missing, damaged or not private."""
    try:
        if not is_private(path):
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        return Query(**{**found, "parameters": tuple(found["parameters"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_privately(path: Path, text: str) -> None:
    """Write a file atomically. Errors are ignored, since the cache only saves time."""
    with suppress(OSError):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def make_private(folder: Path) -> None:
    """Create a folder that only this user can use."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def is_private(path: Path) -> bool:
    """Return whether a path belongs to this user, is writable only by this user and is not a link."""
    found = path.lstat()
    return (
        found.st_uid == os.geteuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and not stat.S_ISLNK(found.st_mode)
    )


def _prune(root: Path) -> None:
    """Delete the queries for the code and settings that were used least recently."""
    folders = sorted(root.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in folders[_FINGERPRINTS_KEPT - 1 :]:
        shutil.rmtree(folder, ignore_errors=True)
