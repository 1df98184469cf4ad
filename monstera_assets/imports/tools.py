"""How a tool's module describes its files: which columns recognise them, and what becomes of each.

A tool's raw columns are read under their own names: as text, as JSON or as a UTC timestamp, whether
the file is JSON, Parquet or CSV. One SELECT therefore serves every form of an export.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from monstera_assets.settings.imports import ImportSettings
from monstera_assets.source.sql import literal

if TYPE_CHECKING:
    from monstera_assets.imports.own_properties import Properties

EVENT_COLUMNS: Mapping[str, str] = {
    "event_id": "VARCHAR",
    "name": "VARCHAR",
    "ts": "TIMESTAMP",
    "received_at": "TIMESTAMP",
    "map_id": "VARCHAR",
    "anon_id": "VARCHAR",
    "user_id": "VARCHAR",
    "location": "VARCHAR",
    "session_id": "VARCHAR",
    "props": "VARCHAR",
    "account_id": "VARCHAR",
    "described_account": "VARCHAR",
    "account_name": "VARCHAR",
    "account_plan": "VARCHAR",
    "account_created_at": "TIMESTAMP",
    "product_id": "VARCHAR",
    "url": "VARCHAR",
    "email": "VARCHAR",
    "country": "VARCHAR",
    "source": "VARCHAR",
    "seen_country": "VARCHAR",
    "seen_source": "VARCHAR",
    "created_at": "TIMESTAMP",
    "alias_of": "VARCHAR",
    "is_bookkeeping": "BOOLEAN",
    "is_excluded": "BOOLEAN",
    "is_part": "BOOLEAN",
    "is_deletion": "BOOLEAN",
    "is_provisional": "BOOLEAN",
}
"""A raw event. `map_id` is its key in the tool's own map of ids, `anon_id` its device.

`account_id` is the account of its user, `described_account` the account that the `account_` columns
describe. `email`, `country`, `source` and `created_at` are traits of the user from the event on; the
`seen_` columns count where nothing states a trait, the first seen for all days. `alias_of` is an id
that the event makes an alias of its user. A part only adds properties to the event with its id, and a
provisional event gives way to any other with its id.
"""

USER_COLUMNS: Mapping[str, str] = {
    "map_id": "VARCHAR",
    "anon_id": "VARCHAR",
    "user_id": "VARCHAR",
    "ts": "TIMESTAMP",
    "version": "BIGINT",
    "email": "VARCHAR",
    "country": "VARCHAR",
    "source": "VARCHAR",
    "account_id": "VARCHAR",
    "created_at": "TIMESTAMP",
    "deleted_at": "TIMESTAMP",
    "profile_name": "VARCHAR",
    "profile_plan": "VARCHAR",
    "is_profile": "BOOLEAN",
}
"""What the tool knows of a user since `ts`, or as the latest state where `ts` is null.

Among latest states, the highest `version` counts. A profile is a user's or an account's: that of an
account is known by an event that names its id as account.
"""

ACCOUNT_COLUMNS: Mapping[str, str] = {
    "account_id": "VARCHAR",
    "ts": "TIMESTAMP",
    "version": "BIGINT",
    "name": "VARCHAR",
    "plan": "VARCHAR",
    "seats": "VARCHAR",
    "created_at": "TIMESTAMP",
    "first_paid_at": "TIMESTAMP",
    "revenue": "VARCHAR",
    "renewal": "VARCHAR",
}
"""What the tool knows of an account since `ts`, or as the latest state where `ts` is null."""

ID_COLUMNS: Mapping[str, str] = {
    "what": "VARCHAR",
    "from_id": "VARCHAR",
    "to_id": "VARCHAR",
    "ts": "TIMESTAMP",
    "version": "BIGINT",
}
"""What a tool says of ids. `what` is one of these:

- map: the key `from_id` of the tool's own map is the user `to_id`,
- merge: the key `from_id` of the tool's own map now is the key `to_id`,
- alias: the user `from_id` is now the user `to_id`.
"""

BILLING_COLUMNS: Mapping[str, str] = {
    "event_id": "VARCHAR",
    "event_type": "VARCHAR",
    "ts": "TIMESTAMP",
    "object": "VARCHAR",
    "object_id": "VARCHAR",
    "customer": "VARCHAR",
    "account_id": "VARCHAR",
    "subscription": "VARCHAR",
    "is_test": "BOOLEAN",
    "created_at": "TIMESTAMP",
    "status": "VARCHAR",
    "billing_reason": "VARCHAR",
    "amount_paid": "BIGINT",
    "currency": "VARCHAR",
    "paid_at": "TIMESTAMP",
    "next_attempt_at": "TIMESTAMP",
    "invoice": "VARCHAR",
    "payment_intent": "VARCHAR",
    "cancel_at": "TIMESTAMP",
    "canceled_at": "TIMESTAMP",
    "ended_at": "TIMESTAMP",
    "period_end": "TIMESTAMP",
    "name": "VARCHAR",
    "pause_reason": "VARCHAR",
    "items": "VARCHAR",
    "lines": "VARCHAR",
    "is_changed": "BOOLEAN",
    "is_repriced": "BOOLEAN",
    "is_new_period": "BOOLEAN",
    "is_announced": "BOOLEAN",
    "is_revoked": "BOOLEAN",
    "is_paused": "BOOLEAN",
    "is_resumed": "BOOLEAN",
    "is_malformed": "BOOLEAN",
}
"""An object of a billing tool, as it is now, or as it was at an event of it at `ts`.

Amounts are in minor units. `items` and `lines` are JSON lists: what is subscribed, and an invoice's
lines. `cancel_at` is when a subscription that is to end will end. The flags from `is_changed` on say
what an update of a subscription changed.
"""

MOVEMENT_COLUMNS: Mapping[str, str] = {
    "ts": "TIMESTAMP",
    "subscription": "VARCHAR",
    "currency": "VARCHAR",
    "amount": "BIGINT",
}
"""A change of monthly recurring revenue, in minor units, as the billing tool reports it."""

RELATIONS: Mapping[str, Mapping[str, str]] = {
    "events": EVENT_COLUMNS,
    "users": USER_COLUMNS,
    "accounts": ACCOUNT_COLUMNS,
    "ids": ID_COLUMNS,
    "billing": BILLING_COLUMNS,
    "movements": MOVEMENT_COLUMNS,
}

OVERRIDES: Mapping[str, str] = {
    **{key: key for key in ("event_id", "user_id", "received_at", "location", "session_id")},
    **{key: key for key in ("account_id", "product_id", "url", "account_name", "account_plan")},
    "event": "name",
    "timestamp": "ts",
    "anonymous_id": "anon_id",
    "properties": "props",
}
"""The staged columns, keyed by the names in `[import.events.columns]`."""


class Kind(StrEnum):
    """How a raw column is read."""

    TEXT = "text"
    JSON = "json"
    TIME = "time"


@dataclass(frozen=True)
class Select:
    """One SELECT: expressions keyed by staged column, over a FROM clause that reads `raw`.

    If `properties` are given, they become the column `props`, and the expressions can use their paths.
    """

    columns: Mapping[str, str]
    source: str = "raw"
    where: str = "true"
    properties: Properties | None = None


@dataclass(frozen=True)
class Role:
    """One kind of file in an export.

    Attributes:
        name: the role's name, unique in its tool.
        required: the columns that all files in the role have. The first matching role counts.
        columns: the raw columns that are read.
        selects: what becomes of the rows, keyed by relation.
        key: the raw column without which a row is malformed, in files that only describe.
        other_names: names that a raw column also has, keyed by the column.
        absent: columns that no file in the role has.
        only_columns: if set, files in the role have no other columns but those named context_.
        file_name: a part of the files' names, if the columns also occur in another role.
        names_in_order: the columns of tab-separated lines without a header.
        rows: an expression for the number of rows in a raw row.
    """

    name: str
    required: frozenset[str]
    columns: Mapping[str, Kind]
    selects: Mapping[str, Select]
    key: str | None = None
    other_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()
    only_columns: frozenset[str] = frozenset()
    file_name: str = ""
    names_in_order: Sequence[str] = ()
    rows: str = "1"

    @property
    def describes(self) -> bool:
        """Whether the rows only describe, so that none of them is an event or a billing fact."""
        return not {"events", "billing"} & self.selects.keys()

    def accepts(self, columns: Iterable[str], name: str) -> bool:
        """Return whether a file with these columns has the role."""
        found = {name.lower() for name in columns}
        extra = {name for name in found - self.only_columns if not name.startswith("context_")}
        if (self.only_columns and extra) or self.absent & found:
            return False
        if self.file_name not in name.lower():
            return False
        return all(
            any(name.lower() in found for name in (each, *self.other_names.get(each, ())))
            for each in self.required
        )


@dataclass(frozen=True)
class Tool:
    """A tool whose exports can be imported.

    Attributes:
        roles: the kinds of files, given an import's settings.
        event_types: event types for the tool's own names, for which the general rule is not used.
    """

    roles: Callable[[ImportSettings], Sequence[Role]]
    event_types: Mapping[str, str]


def text(*names: str) -> dict[str, Kind]:
    """Return columns that are read as text."""
    return dict.fromkeys(names, Kind.TEXT)


def json(*names: str) -> dict[str, Kind]:
    """Return columns that are read as JSON."""
    return dict.fromkeys(names, Kind.JSON)


def time(*names: str) -> dict[str, Kind]:
    """Return columns that are read as UTC timestamps."""
    return dict.fromkeys(names, Kind.TIME)


def pointer(*keys: str) -> str:
    """Return a JSON pointer to nested keys, as an SQL literal."""
    escaped = (key.replace("~", "~0").replace("/", "~1") for key in keys)
    return literal("".join(f"/{key}" for key in escaped))


def extracted(column: str, paths: Mapping[str, Sequence[str]], source: str = "raw") -> str:
    """Return a FROM clause that adds a column for each path into a JSON column.

    All paths are extracted in one pass over the JSON text.
    """
    listed = ", ".join(pointer(*keys) for keys in paths.values())
    places = ", ".join(f"picked_[{place}] AS {name}" for place, name in enumerate(paths, start=1))
    return (
        f"(SELECT * EXCLUDE (picked_), {places} FROM (SELECT *,"
        f" json_extract_string({column}, [{listed}]) AS picked_ FROM {source}))"
    )


def matches(expression: str, *words: str) -> str:
    """Return a condition: the text contains one of the words, ignoring case."""
    return f"regexp_matches(lower({expression}), {literal('|'.join(words))})"


def unchecked(name: str) -> str:
    """Return the column of `raw` that has the text of a JSON column before it is known to be JSON."""
    return f"{name}_text_"


MOBILE = ("ios", "android", "react-native", "flutter", "swift", "kotlin", "iphone", "unity")
"""Words in the names of libraries for mobile apps."""
