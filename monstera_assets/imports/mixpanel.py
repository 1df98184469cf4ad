"""Mixpanel: the raw export API, the JSON pipeline, profiles of the Engage API and identity mappings.

An event's id is a digest of its name, time and insert id, because insert ids repeat and `distinct_id`
changes when people are merged. Sources: Mixpanel's documentation of export methods, of event
deduplication and of JSON pipelines; PostHog's importer of Mixpanel exports.
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
    unchecked,
)
from monstera_assets.lifecycle.timezone import UTC
from monstera_assets.settings.imports import ImportSettings
from monstera_assets.source.sql import literal

DEFAULT_GROUP = "company_id"

_ADDED = (
    "starts_with(k, '$') OR starts_with(k, 'mp_') OR starts_with(k, 'utm_')"
    " OR starts_with(k, 'current_page_') OR starts_with(k, 'current_url_')"
    " OR k IN ('time', 'distinct_id', 'token', 'current_domain', 'insert_id')"
)
_SECONDS = "10_000_000_000"


def _events(settings: ImportSettings) -> Select:
    group = settings.group_type or DEFAULT_GROUP
    by_property = settings.account.removeprefix("property:")
    properties = own_properties(
        unchecked("properties"),
        settings,
        f"{_ADDED} OR k = {literal(group)}",
        {
            "time_": ("time",),
            "distinct_": ("distinct_id",),
            "insert_": ("$insert_id",),
            "device_": ("$device_id",),
            "user_": ("$user_id",),
            "country_": ("mp_country_code",),
            "lib_": ("mp_lib",),
            "processed_": ("mp_processing_time_ms",),
            "url_": ("$current_url",),
            "product_": ("product_id",),
            "group_list_": (group, "0"),
            "group_text_": (group,),
            "property_": (by_property,),
        },
    )
    # The pipeline has the time and the ids in columns of their own, and Fivetran more properties.
    number = "try_cast(time_ AS BIGINT)"
    ts = f"coalesce(make_timestamp(CASE WHEN {number} > {_SECONDS} THEN {number} * 1000"
    ts += f' ELSE {number} * 1000000 END), instant("time"))'
    seconds = 'coalesce(time_, (epoch_us(instant("time")) // 1000000)::VARCHAR)'
    insert, device = "coalesce(insert_, insert_id)", "coalesce(device_, device_id)"
    library = "coalesce(lib_, mp_lib)"
    user, distinct = "coalesce(user_, user_id)", "coalesce(distinct_, distinct_id)"
    if settings.timezone != UTC:
        # In projects from before 2023, the number is the project's clock, read as if it were UTC.
        ts = f"timezone('UTC', timezone({literal(settings.timezone)}, {ts}))"
    account = {"group": "coalesce(group_list_, group_text_)"}.get(settings.account, "NULL")
    if settings.account.startswith("property:"):
        account = "property_"
    return Select(
        {
            "event_id": f"CASE WHEN {insert} IS NOT NULL"
            f" THEN md5(concat_ws('|', event, {seconds}, {insert})) END",
            "name": "event",
            "ts": ts,
            "received_at": "instant(coalesce(processed_, mp_processing_time_ms))",
            "map_id": distinct,
            "anon_id": device,
            "user_id": f"coalesce({user}, CASE WHEN NOT starts_with({distinct}, '$device:')"
            f" AND {distinct} IS DISTINCT FROM {device} THEN {distinct} END)",
            "location": f"CASE WHEN {matches(library, *MOBILE)} THEN 'mobile_app'"
            f" WHEN {library} = 'web' THEN 'web_app' ELSE 'api' END",
            "account_id": account,
            "product_id": "product_",
            "url": "coalesce(url_, current_url)",
            "seen_country": "coalesce(country_, mp_country_code)",
            "is_bookkeeping": "starts_with(event, '$') AND event <> '$mp_web_page_view'",
        },
        properties=properties,
    )


def _profile(distinct_id: str, properties: str, source: str, settings: ImportSettings) -> Select:
    paths = {
        "email_": ("$email",),
        "created_": ("$created",),
        "country_": ("$country_code",),
        "utm_": ("initial_utm_source",),
        "domain_": ("$initial_referring_domain",),
        "name_": ("$name",),
        "plan_": ("plan",),
        "account_": (settings.account.removeprefix("property:"),),
    }
    is_property = settings.account.startswith("property:")
    return Select(
        {
            "user_id": distinct_id,
            "email": "email_",
            "created_at": f"instant_in(created_, {literal(settings.timezone)})",
            "country": "country_",
            "source": "ltrim(coalesce(utm_, domain_), '$')",
            "account_id": "account_" if is_property else "NULL",
            "profile_name": "name_",
            "profile_plan": "plan_",
            "is_profile": "true",
        },
        extracted(properties, paths, source),
    )


def roles(settings: ImportSettings) -> Sequence[Role]:
    """Return the files of an export: events, profiles and identity mappings."""
    page = """(SELECT raw_file, row, json_extract_string(profile_, '/$distinct_id') AS id_,
        json_extract(profile_, '/$properties') AS properties_ FROM
        (SELECT raw_file, row, unnest(from_json(results, '["JSON"]')) AS profile_ FROM raw))"""
    return (
        Role(
            "identity mappings",
            frozenset({"distinct_id", "resolved_distinct_id"}),
            text("distinct_id", "resolved_distinct_id"),
            {
                "ids": Select(
                    {
                        "what": "'map'",
                        "from_id": "distinct_id",
                        "to_id": "resolved_distinct_id",
                    }
                )
            },
            key="distinct_id",
        ),
        Role(
            "events",
            frozenset({"event", "properties"}),
            {
                **text("event", "time", "distinct_id", "user_id", "device_id", "insert_id"),
                **text("mp_lib", "mp_country_code", "mp_processing_time_ms", "current_url"),
                **json("properties"),
            },
            {"events": _events(settings)},
            other_names={"event": ("event_name", "name")},
        ),
        Role(
            "pages of profiles",
            frozenset({"results", "page"}),
            json("results"),
            {"users": _profile("id_", "properties_", page, settings)},
            key="results",
            rows="coalesce(json_array_length(results), 1)",
        ),
        Role(
            "profiles",
            frozenset({"$distinct_id", "$properties"}),
            {**text("$distinct_id"), **json("$properties")},
            {"users": _profile('"$distinct_id"', '"$properties"', "raw", settings)},
            key="$distinct_id",
            other_names={"$distinct_id": ("distinct_id",), "$properties": ("properties",)},
        ),
    )


TOOL = Tool(roles, {"$mp_web_page_view": "page_viewed"})
