"""Select the properties that a customer's own code sent, out of a JSON column.

Parsing JSON is what an import spends most of its time on. A column is parsed twice: for all values that
are known by name, and for the names in it. Other properties are extracted one by one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from monstera_assets.imports.tools import extracted
from monstera_assets.settings.imports import ImportSettings
from monstera_assets.source.sql import identifier, literal

SAMPLED_ROWS = 2_048
MOST_FREQUENT = 32
"""How many rows are sampled for frequent properties, and how many properties are frequent at most."""

_Tree = dict[str, object]


@dataclass(frozen=True)
class Properties:
    """A JSON column: what is read from it, and which of its properties are kept.

    Attributes:
        column: the column, as text or JSON. Text that is not JSON has no values and no properties.
        kept: a condition on the name `k` of a property to keep.
        paths: nested keys whose values are read as text, keyed by the column they become.
        drop_nulls: whether to drop properties that are null, which missing columns are.
        varying: all names that `kept` depends on the row for. They are never frequent, because
            frequent properties are kept wherever they have a value.
    """

    column: str
    kept: str
    paths: Mapping[str, Sequence[str]] = field(default_factory=dict)
    drop_nulls: bool = False
    varying: Sequence[str] = ()

    def opened(self, source: str, frequent: Sequence[str] = ()) -> str:
        """Return a FROM clause that adds the columns of the paths, and what `as_json` reads.

        Args:
            source: a FROM clause.
            frequent: the names of properties that many rows have, in the order of `as_json`.
        """
        tree: _Tree = {}
        for name in frequent:
            _insert(tree, (name,), "JSON")
        columns, others = [], {}
        for name, keys in self.paths.items():
            value = "read_." + ".".join(map(identifier, keys))
            if tuple(keys) in {(each,) for each in frequent}:
                columns.append(f"json_extract_string({value}, '$') AS {name}")
            elif _insert(tree, keys, "VARCHAR"):
                columns.append(f"{value} AS {name}")
            else:
                others[name] = keys
        structure = literal(json.dumps(tree or {"none": "VARCHAR"}))
        text = f"CAST({self.column} AS VARCHAR)"
        source = f"""(SELECT *, CASE WHEN read_ IS NOT NULL THEN {text} END AS readable_ FROM
            (SELECT *, TRY(json_transform(nullif({text}, ''), {structure})) AS read_ FROM {source}))"""
        if others:
            source = extracted("readable_", others, source)
        names = f"list_filter(json_keys(readable_), lambda k: {self.kept}) AS names_"
        return f"(SELECT {', '.join(['*', *columns, names])} FROM {source})"

    def as_json(self, frequent: Sequence[str]) -> str:
        """Return an expression for the kept properties as a JSON object, or null if there are none.

        The properties are in the order of their names, so that neither the order in which they were
        written nor the frequent names change the text.

        Args:
            frequent: the names that `opened` was called with.
        """
        values = {name: f"read_.{identifier(name)}" for name in sorted(frequent)}
        listed = f"[{', '.join(map(literal, values))}]::VARCHAR[]"
        # Few names need an escape, and replacing in all of them takes a fifth of the time.
        path = (
            "'/' || CASE WHEN contains(k, '/') OR contains(k, '~')"
            " THEN replace(replace(k, '~', '~0'), '/', '~1') ELSE k END"
        )
        value = f"json_extract(readable_, {path})"
        if values:
            found = f"[{', '.join(values.values())}][list_position({listed}, k)]"
            value = f"coalesce({found}, {value})"
        names = "list_sort(list_distinct(names_))"
        if self.drop_nulls:
            names = f"list_filter({names}, lambda k: json_type({value}) <> 'NULL')"
        members = f"list_transform({names}, lambda k: concat(to_json(k), ':', {value}))"
        each = f"array_to_string({members}, ',')"
        if values:
            # Most rows have frequent properties only, which need no list.
            count = " + ".join(f"({value} IS NOT NULL)::INTEGER" for value in values.values())
            complete = f"len(names_) = {count}"
            if self.drop_nulls:
                complete = f"len(list_filter(names_, lambda k: NOT list_contains({listed}, k))) = 0"
            parts = (f"{literal(f'{json.dumps(name)}:')} || {v}" for name, v in values.items())
            each = f"CASE WHEN {complete} THEN concat_ws(',', {', '.join(parts)}) ELSE {each} END"
        return f"nullif(concat('{{', {each}, '}}'), '{{}}')"


def _insert(tree: _Tree, keys: Sequence[str], kind: str) -> bool:
    """Add nested keys to a structure of `json_transform`, and return whether it can have them.

    In a structure, names differ in more than case, and a list has no keys.
    """
    if any(not key or key.isdigit() for key in keys):
        return False
    for place, key in enumerate(keys):
        by_lower = {name.lower(): name for name in tree}
        is_last = place == len(keys) - 1
        if by_lower.get(key.lower(), key) != key:
            return False
        found = tree.setdefault(key, kind if is_last else {})
        if is_last:
            return found == kind
        if not isinstance(found, dict):
            return False
        tree = found
    return False


def own_properties(
    column: str,
    settings: ImportSettings,
    dropped: str = "false",
    paths: Mapping[str, Sequence[str]] | None = None,
    *,
    drop_nulls: bool = False,
    varying: Sequence[str] = (),
) -> Properties:
    """Return the properties to keep of a column that contains an object.

    Args:
        column: the column, as text or JSON.
        settings: the import, whose `metadata` lists the properties or is "own".
        dropped: a condition on the name `k` of a property that the tool added.
        paths: as for `Properties`.
        drop_nulls: as for `Properties`.
        varying: as for `Properties`.
    """
    if settings.metadata == "own":
        kept = f"NOT ({dropped})"
    else:
        kept = f"list_contains([{', '.join(map(literal, settings.metadata))}]::VARCHAR[], k)"
    return Properties(column, kept, paths or {}, drop_nulls, varying)
