"""GA4: the BigQuery export's tables, extracted to JSON lines or Parquet.

Events have no id. A day's table is final after three days, and until then an intraday table holds the
same events. Sources: Google's event schema of the BigQuery export, BigQuery's documentation of exports
(integers become text in JSON), and dbt-ga4.
"""

from __future__ import annotations

from collections.abc import Sequence

from monstera_assets.imports.tools import Role, Select, Tool, json, text
from monstera_assets.settings.imports import ImportSettings
from monstera_assets.source.sql import literal

DEFAULT_GROUP = "account_id"

_ADDED = (
    *("ga_session_id", "ga_session_number", "page_location", "page_title", "page_referrer"),
    *("engagement_time_msec", "session_engaged", "engaged_session_event", "entrances"),
    *("debug_mode", "debug_event", "ignore_referrer", "source", "medium", "campaign", "term"),
    *(
        "content",
        "campaign_id",
        "gclid",
        "dclid",
        "srsltid",
        "percent_scrolled",
        "synthetic_bundle",
    ),
    *("batch_ordering_id", "batch_page_id", "percent", "unique_search_term"),
)
_KINDS = ("string_value", "int_value", "float_value", "double_value")
_VALUE = ",".join(f'"{kind}":"VARCHAR"' for kind in _KINDS)
_STRUCTURE = f'[{{"key":"VARCHAR","value":{{{_VALUE}}}}}]'
_BOOKKEEPING = "('session_start', 'first_visit', 'first_open', 'user_engagement')"


def _of(values: str, key: str) -> str:
    """Return the value of a key in a list of keys and values, as text."""
    found = f"list_filter({values}, lambda p: p.key = {literal(key)})[1].value"
    return f"coalesce({', '.join(f'{found}.{kind}' for kind in _KINDS)})"


def _events(settings: ImportSettings) -> Select:
    group = settings.group_type or DEFAULT_GROUP
    if settings.account.startswith("property:"):
        group = settings.account.removeprefix("property:")
    if settings.metadata == "own":
        kept = f"p.key NOT IN ({', '.join(map(literal, _ADDED))})"
        kept += " AND NOT starts_with(p.key, 'firebase_')"
    else:
        kept = f"list_contains([{', '.join(map(literal, settings.metadata))}]::VARCHAR[], p.key)"
    # Integers are text in JSON. Whatever is not a JSON number stays text.
    number = "coalesce(p.value.int_value, p.value.float_value, p.value.double_value)"
    value = (
        "CASE WHEN p.value.string_value IS NOT NULL THEN to_json(p.value.string_value)::VARCHAR"
        f" WHEN regexp_full_match({number}, '-?(0|[1-9]\\d*)(\\.\\d+)?([eE][+-]?\\d+)?') THEN {number}"
        f" ELSE coalesce(to_json({number})::VARCHAR, 'null') END"
    )
    members = f"list_transform(list_filter(params_, lambda p: {kept}), lambda p:"
    members += f" to_json(p.key)::VARCHAR || ':' || {value})"
    account = f"coalesce({_of('user_', group)}, {_of('params_', group)})"
    named = settings.account == "group" or settings.account.startswith("property:")
    source = f"""(SELECT *, from_json(event_params, {literal(_STRUCTURE)}) AS params_,
        from_json(user_properties, {literal(_STRUCTURE)}) AS user_ FROM raw)"""
    traffic = "json_extract_string(traffic_source, '/source')"
    return Select(
        {
            "event_id": "CASE WHEN user_pseudo_id IS NOT NULL OR batch_page_id IS NOT NULL THEN"
            " concat_ws('.', user_pseudo_id, event_timestamp, event_name, batch_page_id,"
            " batch_ordering_id, batch_event_index) END",
            "name": "event_name",
            "ts": "instant(event_timestamp)",
            "received_at": "make_timestamp(epoch_us(instant(event_timestamp))"
            " + try_cast(event_server_timestamp_offset AS BIGINT))",
            "anon_id": "user_pseudo_id",
            "user_id": "user_id",
            "location": "CASE upper(platform) WHEN 'WEB' THEN 'web_app' WHEN 'IOS' THEN 'mobile_app'"
            " WHEN 'ANDROID' THEN 'mobile_app' ELSE 'api' END",
            "session_id": f"user_pseudo_id || ':' || {_of('params_', 'ga_session_id')}",
            "props": f"nullif('{{' || array_to_string({members}, ',') || '}}', '{{}}')",
            "account_id": account if named else "NULL",
            "described_account": account if named else "NULL",
            "account_plan": _of("user_", "plan"),
            "product_id": _of("params_", "product_id"),
            "url": _of("params_", "page_location"),
            "seen_country": "json_extract_string(geo, '/country')",
            "seen_source": f"nullif(trim({traffic}, '()'), 'not set')",
            "is_bookkeeping": f"event_name IN {_BOOKKEEPING}",
            "is_provisional": "contains(raw_file, 'intraday')",
        },
        source,
    )


def roles(settings: ImportSettings) -> Sequence[Role]:
    """Return the events tables, the only files of an export."""
    return (
        Role(
            "events",
            frozenset({"event_timestamp", "event_name", "event_params"}),
            {
                **text("event_timestamp", "event_name", "user_id", "user_pseudo_id", "platform"),
                **text("event_server_timestamp_offset", "batch_page_id", "batch_ordering_id"),
                **text("batch_event_index"),
                **json("event_params", "user_properties", "geo", "traffic_source"),
            },
            {"events": _events(settings)},
        ),
    )


TOOL = Tool(
    roles,
    {"page_view": "page_viewed", "screen_view": "screen_viewed", "sign_up": "signed_up"},
)
