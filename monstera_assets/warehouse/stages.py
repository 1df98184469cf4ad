"""Split an expression into stages: the intermediate tables that it reads several times.

An engine's compiler compiles each stage only once. What an engine does with the stages is its own:
DuckDB materializes them within one query, Spark stores them as files.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ibis.expr.operations as ops

from monstera_assets.lifecycle.expressions import PartitionedByKey

MARKS = (ops.SelfReference, PartitionedByKey)
"""The operations whose inputs are stages: `materialized` and `by_key`."""


def in_stages(
    root: ops.Node, marks: Iterable[ops.Node], compile_it: Callable[[ops.Node], str]
) -> tuple[dict[str, str], ops.Node]:
    """Compile the stages of an expression.

    Args:
        root: the expression.
        marks: its nodes of the kinds in `MARKS`. Other nodes are ignored.
        compile_it: compiles a stage, which reads earlier stages as tables.

    Returns:
        The SQL for each stage, by the name of its table, in an order in which each stage reads only
        earlier ones, and the rest of the expression. A name depends only on the stage's SQL.
    """
    # Plain tables do not need a stage.
    shared = {
        mark.parent
        for mark in marks
        if isinstance(mark, MARKS) and not isinstance(mark.parent, ops.PhysicalTable)
    }
    if not shared:
        return {}, root
    stages: dict[str, str] = {}

    def rewrite(node: ops.Node, below: Mapping[str, Any] | None) -> ops.Node:
        """Rebuild a node from its rewritten inputs, and replace a shared node with a stage's table."""
        rewritten = node.__recreate__(below) if below else node
        if node not in shared:
            return rewritten
        select = compile_it(rewritten)
        # The name depends only on the stage, so that several queries share its SQL.
        name = f"stage_{hashlib.sha256(select.encode()).hexdigest()[:16]}"
        stages[name] = select
        return ops.UnboundTable(name=name, schema=rewritten.schema)

    # Make one pass from the leaves to the root so that each stage reads only earlier stages.
    last = root.replace(rewrite)
    return stages, last


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Disable garbage collection while expressions are being built and compiled.

    Garbage collection would take a tenth of the compile time and free nothing, since every object in
    an expression is needed until the expression's SQL is complete.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
