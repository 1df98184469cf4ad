"""The `[[import]]` tables in the settings: which exports to import, and how to read them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from monstera_assets.lifecycle.timezone import UTC, checked_timezone

_EVENT_TYPE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")
_ACCOUNT = re.compile(r"group|email_domain|user|property:.+")
_STRIPE_ACCOUNT = re.compile(r"customer(\.metadata\..+)?")
_PAUSE_REASON = re.compile(r"voluntary_pause|seasonal|metadata\..+")

EVENT_KEYS = (
    *("event_id", "user_id", "anonymous_id", "event", "timestamp", "received_at", "location"),
    *("session_id", "properties", "account_id", "product_id", "url"),
)
USER_KEYS = (
    *("user_id", "email", "account_id", "created_at", "country", "acquisition_source"),
    *("deleted_at", "valid_from"),
)
ACCOUNT_KEYS = (
    *("account_id", "name", "tier", "seats", "created_at", "valid_from"),
    *("first_paid_at", "monthly_recurring_revenue", "contract_renewal_date"),
)


class ImportKind(StrEnum):
    """The tool that wrote an export. `TABLES` is any other file."""

    POSTHOG = "posthog"
    SEGMENT = "segment"
    RUDDERSTACK = "rudderstack"
    AMPLITUDE = "amplitude"
    MIXPANEL = "mixpanel"
    GA4 = "ga4"
    SNOWPLOW = "snowplow"
    STRIPE = "stripe"
    TABLES = "tables"


class ImportSettings(BaseModel):
    """One `[[import]]` table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ImportKind = Field(description="The tool that wrote the export.")
    path: str | None = Field(
        None, description="The export's folder, or a pattern such as exports/*.parquet."
    )
    timezone: str = Field(
        UTC, description="The time zone of times without an offset, as an IANA name."
    )
    group_type: str | None = Field(
        None,
        description="The group that is the account: the group type, the group property (Mixpanel), the"
        " user property (GA4) or the schema of the context (Snowplow).",
    )
    account: str = Field(
        "group",
        description="Where the account comes from: group, property:NAME, email_domain or user. For"
        " stripe: customer (the default) or customer.metadata.NAME.",
    )
    pause_reason: str = Field(
        "voluntary_pause",
        description="Why Stripe's subscriptions are paused: voluntary_pause, seasonal, or"
        " metadata.NAME for a property of the subscription.",
    )
    billing: Literal["none"] | None = Field(
        None,
        description="Set to none if accounts count as paid since their creation. Default: none if no"
        " import contains billing facts.",
    )
    anonymous: Literal["set_aside", "keep"] = Field(
        "set_aside", description="Whether a visitor who was never identified is a user."
    )
    metadata: Literal["own"] | tuple[str, ...] = Field(
        "own",
        description="The properties to keep: own for all properties that the tool did not add, or a"
        " list of names.",
    )
    deleted_when: str | None = Field(
        None, description="A condition on the raw row. A matching event deletes its user."
    )
    events: Mapping[str, str | Mapping[str, str]] = Field(default_factory=dict)
    users: Mapping[str, str] = Field(default_factory=dict)
    accounts: Mapping[str, str] = Field(default_factory=dict)
    names: Mapping[str, str] = Field(
        default_factory=dict, description="Event types, keyed by the tool's event name."
    )
    tiers: Mapping[str, str] = Field(
        default_factory=dict,
        description="Subscription tiers, keyed by the tool's plan. For stripe: by the id of a price or"
        " product.",
    )

    @property
    def columns(self) -> Mapping[str, str]:
        """The expressions in `[import.events.columns]`, which replace a tool's own."""
        columns = self.events.get("columns", {})
        return columns if isinstance(columns, Mapping) else {}

    @property
    def has_billing_facts(self) -> bool:
        """Whether the import states what accounts pay."""
        return self.kind is ImportKind.STRIPE or any(
            key in self.accounts for key in ACCOUNT_KEYS[6:]
        )

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        return checked_timezone(value)

    @model_validator(mode="before")
    @classmethod
    def _set_stripe_account(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("kind") == ImportKind.STRIPE:
            return {"account": "customer", **values}
        return values

    @field_validator("account")
    @classmethod
    def _check_account(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("kind") is ImportKind.STRIPE:
            if not _STRIPE_ACCOUNT.fullmatch(value):
                raise ValueError("is not customer or customer.metadata.NAME")
        elif not _ACCOUNT.fullmatch(value):
            raise ValueError("is not group, property:NAME, email_domain or user")
        return value

    @field_validator("pause_reason")
    @classmethod
    def _check_pause_reason(cls, value: str) -> str:
        if not _PAUSE_REASON.fullmatch(value):
            raise ValueError("is not voluntary_pause, seasonal or metadata.NAME")
        return value

    @field_validator("names")
    @classmethod
    def _check_names(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for name, event_type in value.items():
            if not _EVENT_TYPE.fullmatch(event_type):
                raise ValueError(
                    f"the event type {event_type!r} of {name!r} must be two or more lowercase words"
                    " joined by underscores"
                )
        return value

    @model_validator(mode="after")
    def _check_tables(self) -> ImportSettings:
        if self.kind is ImportKind.STRIPE:
            for name in ("billing", "events", "deleted_when", "names"):
                if getattr(self, name):
                    raise ValueError(f"{name} does not apply to the kind stripe")
        if self.kind is not ImportKind.TABLES:
            if other := sorted({*self.events} - {"columns"}):
                raise ValueError(
                    f"events.{other[0]} is only for the kind tables. For {self.kind}, put the"
                    f" expression into [import.events.columns]."
                )
            if self.users or self.accounts:
                raise ValueError("users and accounts are only for the kind tables")
            if self.path is None:
                raise ValueError("path is missing. Set it to the folder that contains the export.")
            return self
        for name, table, keys, needed in (
            ("events", self.events, EVENT_KEYS, ("event", "timestamp")),
            ("users", self.users, USER_KEYS, ("user_id",)),
            ("accounts", self.accounts, ACCOUNT_KEYS, ("account_id",)),
        ):
            if not table:
                continue
            if unknown := sorted({*table} - {*keys, "from", "where"}):
                raise ValueError(
                    f"{name}.{unknown[0]} is not a supported setting. Supported expressions:"
                    f" {', '.join(keys)}."
                )
            if missing := [key for key in ("from", *needed) if key not in table]:
                raise ValueError(f"{name}.{missing[0]} is missing")
        if not (self.events or self.users or self.accounts):
            raise ValueError("the kind tables needs [import.events], [import.users] or both")
        return self
