"""Exports of one invented story by several tools, with the rows of the source worked out by hand."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from monstera_assets.imports.landing import WORK
from monstera_assets.settings import Settings

EXPORTS = Path(__file__).parents[1] / "exports"
CATALOG = EXPORTS / "product_catalog.csv"

_DELETED = "event = 'Account Deleted'"

_FRACTION = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+")

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Sample:
    """One form of one tool's export: the folder of raw files, and the settings of its import."""

    tool: str
    form: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def raw(self) -> Path:
        """The folder of raw files."""
        return EXPORTS / self.tool / "raw" / self.form

    @property
    def expected(self) -> Path:
        """The folder of expected rows."""
        return EXPORTS / self.tool / "expected"

    def import_table(self, raw: Path | None = None) -> dict[str, Any]:
        """Return the [[import]] table that reads a folder of raw files."""
        table = {"kind": self.tool, "path": str(raw or self.raw), **self.options}
        return {**table, "kind": "tables"} if self.tool == "plain" else table


SAMPLES = {
    "posthog-parquet": Sample("posthog", "parquet"),
    "posthog-json": Sample("posthog", "jsonl"),
    "segment": Sample("segment", "", {"deleted_when": _DELETED}),
    "rudderstack": Sample("rudderstack", "", {"deleted_when": "event_text = 'Account Deleted'"}),
    "amplitude": Sample("amplitude", "", {"deleted_when": "event_type = 'Account Deleted'"}),
    "mixpanel": Sample("mixpanel", "", {"deleted_when": _DELETED, "group_type": "company_id"}),
    "ga4-parquet": Sample("ga4", "parquet", {"deleted_when": "event_name = 'account_deleted'"}),
    "ga4-json": Sample("ga4", "json", {"deleted_when": "event_name = 'account_deleted'"}),
    "snowplow": Sample(
        "snowplow",
        "enriched",
        {"deleted_when": "event_name = 'account_deleted'", "group_type": "com.inkwell/account"},
    ),
    "plain": Sample(
        "plain",
        "",
        {
            "events": {
                "from": "app_events.csv",
                "event_id": "id",
                "user_id": "user_id",
                "event": "name",
                "timestamp": "occurred_at",
                "received_at": "inserted_at",
                "location": "case payload->>'client' when 'ios' then 'mobile_app'"
                " when 'worker' then 'api' else 'web_app' end",
                "properties": "payload",
                "where": "true",
            },
            "users": {
                "from": "app_users.csv",
                "user_id": "id",
                "email": "email",
                "account_id": "org_id",
                "created_at": "created_at",
                "country": "country_code",
                "acquisition_source": "utm_source",
                "deleted_at": "deleted_at",
            },
            "accounts": {
                "from": "orgs.csv",
                "account_id": "id",
                "name": "name",
                "tier": "plan",
                "seats": "seats",
                "created_at": "created_at",
            },
            "tiers": {"pro": "professional"},
        },
    ),
}

STRIPE = Sample(
    "stripe",
    "",
    {
        "account": "customer.metadata.account_id",
        "tiers": {"prod_starter": "starter", "prod_pro": "professional", "prod_ent": "enterprise"},
    },
)
"""Stripe's export of the same story. It has billing facts, and no users or events."""


def settings_of(source: Path, *tables: dict[str, Any], **others: Any) -> Settings:
    """Return settings for imports into a source folder, which gets the catalog of all samples."""
    source.mkdir(parents=True, exist_ok=True)
    (source / WORK).mkdir(exist_ok=True)
    if not (source / CATALOG.name).exists():
        shutil.copy(CATALOG, source)
    return Settings(source=source, imports=tables, **others)


def landed_bytes(source: Path) -> dict[str, bytes]:
    """Return the bytes of each landed file, by path."""
    found = [*source.glob("*.parquet"), *source.glob("events/*/*.parquet")]
    return {path.relative_to(source).as_posix(): path.read_bytes() for path in found}


def landed_rows(source: Path, name: str) -> Rows:
    """Return an input's landed rows as text, as the expected rows are written."""
    path = source / "events" / "*" / "*.parquet" if name == "events" else source / f"{name}.parquet"
    with duckdb.connect() as connection:
        cursor = connection.execute(f"SELECT * FROM read_parquet('{path}')")
        columns = [column[0] for column in cursor.description or ()]
        found = [dict(zip(columns, map(_text, row), strict=True)) for row in cursor.fetchall()]
    for row in found:
        row.pop("event_date", None)
    return found


def expected_rows(sample: Sample, name: str) -> Rows:
    """Return the rows worked out by hand. The load fills empty values with `unknown`."""
    with (sample.expected / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {key: "" if value == "unknown" else _shortened(value) for key, value in row.items()}
        for row in rows
    ]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else _shortened(str(value))


def _shortened(text: str) -> str:
    """Return a timestamp without trailing zeros in its fraction."""
    return text.rstrip("0").rstrip(".") if _FRACTION.fullmatch(text) else text
