"""Amplitude: the Export API's zip files, the S3 destination's JSON lines, and merged ids.

An `amplitude_id` is one person to Amplitude. In the files of merged ids, `amplitude_id` was merged away
and `merged_amplitude_id` stays. Sources: Amplitude's documentation of the Export API, of the Snowflake
export and of tracking unique users; PostHog's importer of Amplitude exports.
"""

from __future__ import annotations

from collections.abc import Sequence

from monstera_assets.imports.own_properties import own_properties
from monstera_assets.imports.tools import (
    Role,
    Select,
    Tool,
    extracted,
    json,
    matches,
    pointer,
    text,
    time,
    unchecked,
)
from monstera_assets.settings.imports import ImportSettings

DEFAULT_GROUP = "company"

_BOOKKEEPING = (
    "('session_start', 'session_end', '$identify', '$groupidentify',"
    " '[Amplitude] Start Session', '[Amplitude] End Session')"
)


def _events(settings: ImportSettings) -> Select:
    group = settings.group_type or DEFAULT_GROUP
    by_property = settings.account.removeprefix("property:")
    source = extracted(
        "user_properties",
        {
            "email_": ("email",),
            "utm_": ("initial_utm_source",),
            "user_account_": (by_property,),
        },
        extracted("groups", {"group_list_": (group, "0"), "group_text_": (group,)}),
    )
    properties = own_properties(
        unchecked("event_properties"),
        settings,
        "starts_with(k, '[Amplitude]')",
        {
            "url_": ("[Amplitude] Page URL",),
            "product_": ("product_id",),
            "event_account_": (by_property,),
        },
    )
    with_group = f"(SELECT *, coalesce(group_list_, group_text_) AS group_ FROM {source})"
    description = f"json_extract(group_properties, [{pointer(group)}])[1]"
    with_description = f"""(SELECT *,
        CASE WHEN group_ IS NOT NULL THEN json_extract({description}, '/' ||
            replace(replace(group_, '~', '~0'), '/', '~1')) END AS description_ FROM {with_group})"""
    account = {"group": "group_"}.get(settings.account, "NULL")
    if settings.account.startswith("property:"):
        account = "coalesce(event_account_, user_account_)"
    return Select(
        {
            "event_id": "coalesce(uuid, device_id || ':' || \"$insert_id\")",
            "name": "event_type",
            "ts": "coalesce(event_time, client_event_time)",
            "received_at": "coalesce(server_received_time, server_upload_time)",
            "map_id": "amplitude_id",
            "anon_id": "device_id",
            "user_id": "user_id",
            "location": "CASE WHEN lower(platform) IN ('ios', 'android') THEN 'mobile_app'"
            " WHEN lower(platform) = 'web' THEN 'web_app'"
            f" WHEN {matches('platform', 'windows', 'mac', 'linux', 'desktop')} THEN 'desktop_app'"
            " ELSE 'api' END",
            "session_id": "CASE WHEN session_id <> '-1' THEN"
            " concat_ws(':', coalesce(device_id, user_id), session_id) END",
            "account_id": account,
            "described_account": "CASE WHEN description_ IS NOT NULL THEN group_ END",
            "account_name": "json_extract_string(description_, '/name')",
            "account_plan": "json_extract_string(description_, '/plan')",
            "product_id": "product_",
            "url": "url_",
            "email": "nullif(email_, 'EMPTY')",
            "seen_country": "country",
            "seen_source": "nullif(utm_, 'EMPTY')",
            "is_bookkeeping": f"event_type IN {_BOOKKEEPING}",
        },
        with_description,
        properties=properties,
    )


def roles(settings: ImportSettings) -> Sequence[Role]:
    """Return the files of an export: events and merged ids."""
    return (
        Role(
            "merged ids",
            frozenset({"amplitude_id", "merged_amplitude_id"}),
            {
                **text("amplitude_id", "merged_amplitude_id", "merge_time"),
                **time("merge_event_time"),
            },
            {
                "ids": Select(
                    {
                        "what": "'merge'",
                        "from_id": "amplitude_id",
                        "to_id": "merged_amplitude_id",
                        "ts": "coalesce(instant(merge_time), merge_event_time)",
                    }
                )
            },
            key="amplitude_id",
        ),
        Role(
            "events",
            frozenset({"event_type", "event_time", "event_properties"}),
            {
                **text("$insert_id", "uuid", "event_type", "amplitude_id", "user_id", "device_id"),
                **text("session_id", "platform", "library", "country"),
                **json("event_properties", "user_properties", "groups", "group_properties"),
                **time("event_time", "client_event_time"),
                **time("server_received_time", "server_upload_time"),
            },
            {"events": _events(settings)},
            other_names={"$insert_id": ("insert_id", "_insert_id")},
        ),
    )


TOOL = Tool(
    roles,
    {"[Amplitude] Page Viewed": "page_viewed", "[Amplitude] Screen Viewed": "screen_viewed"},
)
