"""PostHog: batch exports of events and persons, as Parquet or JSON lines.

`person_id` on an event is that at ingestion. The persons model maps each `distinct_id` to its person
of today, so it comes first. Sources: PostHog's products/batch_exports/backend (persons and events
models, s3_batch_export.py) and its documentation of batch exports.
"""

from __future__ import annotations

from collections.abc import Sequence

from monstera_assets.imports.own_properties import own_properties
from monstera_assets.imports.tools import (
    MOBILE,
    Role,
    Select,
    Tool,
    extracted,
    json,
    matches,
    text,
    time,
    unchecked,
)
from monstera_assets.settings.imports import ImportSettings
from monstera_assets.source.sql import literal

DEFAULT_GROUP = "company"

_MERGES = "('$identify', '$create_alias', '$merge_dangerously')"


def _events(settings: ImportSettings) -> Select:
    group = settings.group_type or DEFAULT_GROUP
    by_property = settings.account.removeprefix("property:")
    paths = {
        "lib_": ("$lib",),
        "session_": ("$session_id",),
        "url_": ("$current_url",),
        "profiled_": ("$process_person_profile",),
        "device_": ("$device_id",),
        "group_": ("$groups", group),
        "product_": ("product_id",),
        "account_": (by_property,),
        "anon_": ("$anon_distinct_id",),
        "alias_": ("alias",),
        "group_type_": ("$group_type",),
        "group_key_": ("$group_key",),
        "group_name_": ("$group_set", "name"),
        "group_plan_": ("$group_set", "plan"),
    }
    describes = f"event = '$groupidentify' AND group_type_ = {literal(group)}"
    account = {"group": "group_"}.get(settings.account, "NULL")
    if settings.account.startswith("property:"):
        account = "account_"
    return Select(
        {
            "event_id": "uuid",
            "name": "event",
            "ts": "timestamp",
            "received_at": "coalesce(created_at, _inserted_at)",
            "map_id": "distinct_id",
            "anon_id": f"CASE WHEN event IN {_MERGES} THEN coalesce(anon_, alias_)"
            " ELSE coalesce(device_, distinct_id) END",
            "user_id": "CASE WHEN coalesce(profiled_, 'true') <> 'false'"
            " AND event <> '$groupidentify' THEN person_id END",
            "location": "CASE WHEN lib_ IN ('web', 'js') THEN 'web_app'"
            f" WHEN {matches('lib_', *MOBILE)} THEN 'mobile_app'"
            " WHEN starts_with(lib_, 'posthog-js') THEN 'web_app'"
            " ELSE 'api' END",
            "session_id": "session_",
            "account_id": account,
            "described_account": f"CASE WHEN {describes} THEN group_key_ END",
            "account_name": f"CASE WHEN {describes} THEN group_name_ END",
            "account_plan": f"CASE WHEN {describes} THEN group_plan_ END",
            "product_id": "product_",
            "url": "url_",
            "is_bookkeeping": "starts_with(event, '$') AND event NOT IN ('$pageview', '$screen')",
        },
        # Comparing takes half the time of starts_with(k, '$').
        properties=own_properties(unchecked("properties"), settings, "k >= '$' AND k < '%'", paths),
    )


_PERSON = extracted(
    "properties",
    {
        "email_": ("email",),
        "country_": ("$geoip_country_code",),
        "utm_": ("$initial_utm_source",),
        "domain_": ("$initial_referring_domain",),
    },
)


def roles(settings: ImportSettings) -> Sequence[Role]:
    """Return the files of a batch export: events and persons."""
    deleted = "lower(is_deleted) IN ('true', '1')"
    return (
        Role(
            "persons",
            frozenset({"distinct_id", "person_id", "person_distinct_id_version"}),
            {
                **text("distinct_id", "person_id", "person_distinct_id_version"),
                **text("person_version", "is_deleted"),
                **json("properties"),
                **time("created_at", "_inserted_at"),
            },
            {
                "users": Select(
                    {
                        "map_id": "distinct_id",
                        "user_id": "person_id",
                        "version": "try_cast(person_version AS BIGINT)",
                        "email": "email_",
                        "country": "country_",
                        "source": "ltrim(coalesce(utm_, domain_), '$')",
                        "created_at": "created_at",
                        "deleted_at": f"CASE WHEN {deleted} THEN _inserted_at END",
                    },
                    _PERSON,
                ),
                "ids": Select(
                    {
                        "what": "'map'",
                        "from_id": "distinct_id",
                        "to_id": "person_id",
                        "version": "try_cast(person_distinct_id_version AS BIGINT)",
                    }
                ),
            },
            key="distinct_id",
        ),
        Role(
            "events",
            frozenset({"uuid", "event", "distinct_id", "properties"}),
            {
                **text("uuid", "event", "distinct_id", "person_id"),
                **json("properties", "person_properties"),
                **time("timestamp", "created_at", "_inserted_at"),
            },
            {"events": _events(settings)},
        ),
    )


TOOL = Tool(roles, {"$pageview": "page_viewed", "$screen": "screen_viewed"})
