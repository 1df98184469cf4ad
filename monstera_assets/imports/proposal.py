"""Propose settings and a product catalog for a folder of exports."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from monstera_assets.imports.entity_versions import FREE_MAIL
from monstera_assets.imports.importer import computed
from monstera_assets.imports.raw_files import Piece, RawFormat, find_files, pieces
from monstera_assets.imports.raw_staging import role_of
from monstera_assets.imports.registry import TOOLS
from monstera_assets.settings import SETTINGS_FILE, Settings, SettingsError
from monstera_assets.settings.imports import ImportKind, ImportSettings
from monstera_assets.source.errors import SourceError
from monstera_assets.source.sql import path_literal

SOURCE = Path("source")
CATALOG = "product_catalog.csv"

_ORDER = (
    *(ImportKind.POSTHOG, ImportKind.AMPLITUDE, ImportKind.GA4, ImportKind.SNOWPLOW),
    *(ImportKind.SEGMENT, ImportKind.RUDDERSTACK, ImportKind.MIXPANEL, ImportKind.STRIPE),
)
_GROUPS = {ImportKind.POSTHOG: ("properties", "/$groups"), ImportKind.AMPLITUDE: ("groups", "")}
_ACCOUNT_ID = re.compile(r"account|org|team|workspace|company|tenant|group", re.IGNORECASE)
_NOT_WORK = re.compile(
    r"(^|_)(page|screen)s?_view(ed)?$|log(ged)?_?(in|out)(_|$)|sign(ed)?_(in|out|up)(_|$)"
    r"|(^|_)(session|settings?|preferences?|notifications?|password|cookie|consent|account)(_|$)"
    r"|^(app|application)_(opened|installed|updated|launched|backgrounded|foregrounded|became_active)$"
    r"|identif|heartbeat|_ping$"
)


@dataclass(frozen=True)
class EventType:
    """How often an event type occurs, and what is proposed for it.

    Attributes:
        share: the share of all landed events.
    """

    name: str
    users: int
    days: int
    share: float
    qualifies: bool
    activates: bool


@dataclass(frozen=True)
class Proposal:
    """The proposed files, and what they are based on."""

    settings_file: Path
    catalog_file: Path
    kinds: Mapping[str, str]
    event_types: Sequence[EventType]
    unrecognized: Sequence[str]


def propose(exports: Path, folder: Path = Path()) -> Proposal:
    """Write monstera.toml and the product catalog for a folder of exports.

    Args:
        exports: the folder of exports.
        folder: the folder to write to.

    Raises:
        SettingsError: If one of the files exists already.
        SourceError: If no file is recognized, or a file cannot be read.
    """
    settings_file, catalog_file = folder / SETTINGS_FILE, folder / SOURCE / CATALOG
    for path in (settings_file, catalog_file):
        if path.exists():
            raise SettingsError(
                f"{path} exists already and is not overwritten. Remove or rename it."
            )
    kinds, unrecognized, groups = _recognize(exports)
    tables = [
        {"kind": str(kind), "path": path, **groups.get(kind, {})} for kind, path in kinds.items()
    ]
    found = [ImportSettings.model_validate(table) for table in tables]
    settings = Settings(source=folder / SOURCE, imports=tuple(found))
    with computed(settings) as rows:
        accounts = _accounts(rows.connection)
        event_types = _event_types(rows.connection)
        prices = _prices(rows.connection)
    for table in tables:
        if table["kind"] != ImportKind.STRIPE:
            table["account"] = accounts
    texts = {
        settings_file: _settings_text(tables, prices),
        catalog_file: _catalog_text(event_types),
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        # An exclusive open never replaces a file that was created in the meantime.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
            file.write(text)
    shown = {str(kind): path for kind, path in kinds.items()}
    return Proposal(settings_file, catalog_file, shown, event_types, unrecognized)


def _recognize(
    exports: Path,
) -> tuple[dict[ImportKind, str], list[str], dict[ImportKind, dict[str, str]]]:
    """Return each tool's folder, the files of no tool, and the groups that are accounts."""
    folders: dict[ImportKind, list[Path]] = {}
    groups: dict[ImportKind, dict[str, str]] = {}
    unrecognized: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="monstera-init-") as name,
        duckdb.connect() as connection,
    ):
        for file in find_files(str(exports)):
            parts = pieces(connection, file, Path(name))
            kind = next((each for each in _ORDER if _is_of(each, parts)), None)
            if kind is ImportKind.SEGMENT and _is_rudder(parts):
                kind = ImportKind.RUDDERSTACK
            if kind is None:
                if any(piece.format is not RawFormat.EMPTY for piece in parts):
                    unrecognized.append(file.name)
                continue
            folders.setdefault(kind, []).append(file.path.parent)
            if kind is ImportKind.STRIPE and (account := _customer_account(connection, parts)):
                groups.setdefault(kind, {})["account"] = account
            if (
                kind in _GROUPS
                and kind not in groups
                and (group := _group(connection, kind, parts))
            ):
                groups[kind] = {"group_type": group}
    if not folders:
        raise SourceError(
            f"No file in {exports} is an export that is recognized. Import other files with the kind"
            " tables (see docs/how-to/importing.md)."
        )
    paths = {kind: os.path.commonpath(found) for kind, found in folders.items()}
    return paths, unrecognized, groups


def _is_of(kind: ImportKind, parts: Sequence[Piece]) -> bool:
    settings = ImportSettings(kind=kind, path=".")
    roles = TOOLS[kind].roles(settings)
    known = [piece for piece in parts if piece.columns or piece.format is RawFormat.TSV_LINES]
    return any(role_of(piece, roles) is not None for piece in known)


def _is_rudder(parts: Sequence[Piece]) -> bool:
    return any(
        "rudder" in piece.raw_file.lower() or {"rudderId", "_timestamp"} & {*piece.columns}
        for piece in parts
    ) or any("rudder" in str(piece.path).lower() for piece in parts)


def _group(
    connection: duckdb.DuckDBPyConnection, kind: ImportKind, parts: Sequence[Piece]
) -> str | None:
    """Return the group type that most events name, unless it is the default or there is none."""
    column, pointer = _GROUPS[kind]
    counts: dict[str, int] = {}
    for piece in parts:
        if column not in piece.columns:
            continue
        reader, options = "read_parquet", ""
        if piece.format is not RawFormat.PARQUET:
            reader = "read_json"
            options = (
                f", columns = {{'{column}': 'JSON'}}, format = 'newline_delimited',"
                f" ignore_errors = true, compression = '{piece.compression}'"
            )
        found = f"json_extract(TRY_CAST({column} AS JSON), '{pointer}')"
        rows = connection.execute(
            f"SELECT key, count(*) FROM (SELECT unnest(json_keys({found})) AS key FROM"
            f" {reader}({path_literal(piece.path)}{options})) GROUP BY key"
        ).fetchall()
        for key, count in rows:
            counts[key] = counts.get(key, 0) + count
    if not counts or "company" in counts:
        return None
    return max(sorted(counts), key=lambda key: counts[key])


def _customer_account(connection: duckdb.DuckDBPyConnection, parts: Sequence[Piece]) -> str | None:
    """Return the property that at least half of Stripe's customers have and that names an account."""
    for piece in parts:
        if piece.format is not RawFormat.JSON_LINES or "metadata" not in piece.columns:
            continue
        rows = connection.execute(
            "SELECT key FROM (SELECT unnest(json_keys(metadata)) AS key, count(*) OVER () AS customers"
            f" FROM read_json({path_literal(piece.path)}, columns = {{'object': 'VARCHAR',"
            " 'metadata': 'JSON'}, format = 'newline_delimited', ignore_errors = true,"
            f" compression = '{piece.compression}') WHERE object = 'customer')"
            " GROUP BY key, customers HAVING 2 * count(*) >= customers ORDER BY count(*) DESC, key"
        ).fetchall()
        if found := [key for (key,) in rows if _ACCOUNT_ID.search(key)]:
            return f"customer.metadata.{found[0]}"
    return None


def _prices(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the products that are subscribed, which `[import.tiers]` must name."""
    rows = connection.execute(
        "SELECT DISTINCT product_id FROM billing_parts WHERE product_id IS NOT NULL ORDER BY product_id"
    ).fetchall()
    return [row[0] for row in rows]


def _accounts(connection: duckdb.DuckDBPyConnection) -> str:
    """Return where accounts come from: groups, else e-mail domains, else users."""
    [(groups,)] = connection.execute(
        "SELECT count(*) FROM user_facts WHERE attribute = 'account'"
    ).fetchall()
    if groups:
        return "group"
    [(domains,)] = connection.execute(
        "SELECT count(*) FROM user_facts WHERE attribute = 'email'"
        " AND NOT list_contains(?, lower(split_part(value, '@', 2)))",
        [list(FREE_MAIL)],
    ).fetchall()
    return "email_domain" if domains else "user"


def _event_types(connection: duckdb.DuckDBPyConnection) -> list[EventType]:
    rows = connection.execute("""
        SELECT event_type, count(DISTINCT entity_id), count(DISTINCT event_date),
            count(*) / sum(count(*)) OVER ()
        FROM landing WHERE NOT is_deletion GROUP BY event_type
        ORDER BY count(*) DESC, event_type""").fetchall()
    working = [row[0] for row in rows if not _NOT_WORK.search(row[0])]
    first = connection.execute(
        """
        SELECT event_type FROM (
            SELECT entity_id, min({'t': timestamp, 'n': event_type}).n AS event_type FROM landing
            WHERE NOT is_deletion AND list_contains(?, event_type) GROUP BY entity_id)
        GROUP BY event_type ORDER BY count(*) DESC, event_type LIMIT 1""",
        [working],
    ).fetchall()
    activating = {row[0] for row in first}
    return [
        EventType(name, users, days, float(share), name in working, name in activating)
        for name, users, days, share in rows
    ]


def _settings_text(tables: Sequence[Mapping[str, str]], products: Sequence[str]) -> str:
    has_billing = any(table["kind"] == ImportKind.STRIPE for table in tables)
    lines = [
        "# Written by `monstera init`. docs/how-to/importing.md describes the settings.",
        f'source = "{SOURCE}"',
    ]
    for table in tables:
        lines += ["", "[[import]]"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in table.items()]
        if table["kind"] == ImportKind.STRIPE:
            lines += [
                "[import.tiers]  # the tier of each product: trial, starter, professional, enterprise"
            ]
            lines += [f'# {json.dumps(product)} = "starter"' for product in products]
            continue
        if not has_billing:
            lines += [
                'billing = "none"  # accounts count as paid since their creation, at revenue 0'
            ]
        lines += [
            "# deleted_when = \"event = 'Account Deleted'\"  # the event that deletes its user"
        ]
    return "\n".join(lines) + "\n"


def _catalog_text(event_types: Sequence[EventType]) -> str:
    qualifying = "|".join(each.name for each in event_types if each.qualifies)
    activating = "|".join(each.name for each in event_types if each.activates)
    rows = [
        {"product_id": "app", "product_name": "App", "product_family_id": "app", "tier": "family"},
        {
            "product_id": "product",
            "product_name": "Product",
            "product_family_id": "app",
            "tier": "product",
            "parent_product_id": "app",
            "activation_event_types": activating,
            "qualifying_event_types": qualifying,
        },
    ]
    names = (
        *("product_id", "product_name", "product_family_id", "tier", "parent_product_id"),
        *("activation_event_types", "qualifying_event_types", "url_prefixes"),
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
