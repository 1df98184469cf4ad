"""Snowplow: enriched events as tab-separated lines without a header, or as a table of the warehouse.

Sources: Snowplow's documentation of the enriched TSV format, with the column names of its Python
analytics SDK.
"""

from __future__ import annotations

from collections.abc import Sequence

from monstera_assets.imports.own_properties import own_properties
from monstera_assets.imports.tools import (
    Role,
    Select,
    Tool,
    json,
    pointer,
    text,
    time,
)
from monstera_assets.settings.imports import ImportSettings
from monstera_assets.source.sql import literal

NAMES = tuple(
    """
    app_id platform etl_tstamp collector_tstamp dvce_created_tstamp event event_id txn_id
    name_tracker v_tracker v_collector v_etl user_id user_ipaddress user_fingerprint
    domain_userid domain_sessionidx network_userid geo_country geo_region geo_city geo_zipcode
    geo_latitude geo_longitude geo_region_name ip_isp ip_organization ip_domain ip_netspeed
    page_url page_title page_referrer page_urlscheme page_urlhost page_urlport page_urlpath
    page_urlquery page_urlfragment refr_urlscheme refr_urlhost refr_urlport refr_urlpath
    refr_urlquery refr_urlfragment refr_medium refr_source refr_term mkt_medium mkt_source
    mkt_term mkt_content mkt_campaign contexts se_category se_action se_label se_property
    se_value unstruct_event tr_orderid tr_affiliation tr_total tr_tax tr_shipping tr_city
    tr_state tr_country ti_orderid ti_sku ti_name ti_category ti_price ti_quantity
    pp_xoffset_min pp_xoffset_max pp_yoffset_min pp_yoffset_max useragent br_name br_family
    br_version br_type br_renderengine br_lang br_features_pdf br_features_flash
    br_features_java br_features_director br_features_quicktime br_features_realplayer
    br_features_windowsmedia br_features_gears br_features_silverlight br_cookies br_colordepth
    br_viewwidth br_viewheight os_name os_family os_manufacturer os_timezone dvce_type
    dvce_ismobile dvce_screenwidth dvce_screenheight doc_charset doc_width doc_height
    tr_currency tr_total_base tr_tax_base tr_shipping_base ti_currency ti_price_base
    base_currency geo_timezone mkt_clickid mkt_network etl_tags dvce_sent_tstamp
    refr_domain_userid refr_device_tstamp derived_contexts domain_sessionid derived_tstamp
    event_vendor event_name event_format event_version event_fingerprint true_tstamp
    """.split()  # noqa: SIM905
)
"""The columns of an enriched event, in order."""

_CONTEXTS = '[{"schema":"VARCHAR","data":"JSON"}]'


def _events(settings: ImportSettings) -> Select:
    by_property = settings.account.removeprefix("property:")
    is_property = settings.account.startswith("property:")
    group = settings.group_type
    has_schema = (
        f"starts_with(c.schema, {literal(f'iglu:{group}/')})"
        if group
        else "regexp_matches(c.schema, '^iglu:[^/]+/account/')"
    )
    if is_property:
        has_schema = f"json_exists(c.data, {pointer(by_property)})"
    key = by_property if is_property else "account_id"
    source = f"""(SELECT *,
        from_json(json_extract(contexts, '/data'), {literal(_CONTEXTS)}) AS contexts_,
        json_extract(unstruct_event, '/data/data') AS data_ FROM raw)"""
    source = f"""(SELECT *,
        list_filter(contexts_, lambda c: {has_schema})[1].data AS account_,
        list_filter(contexts_, lambda c: contains(c.schema, '/client_session/'))[1].data AS session_
        FROM {source})"""
    paths = {"product_": ("product_id",), "property_": (by_property,)}
    found = f"json_extract_string(account_, {pointer(key)})"
    if is_property:
        found = f"coalesce(property_, {found})"
    account = found if is_property or settings.account == "group" else "NULL"
    return Select(
        {
            "event_id": "event_id",
            "name": "CASE event WHEN 'struct' THEN se_action"
            " WHEN 'unstruct' THEN event_name ELSE coalesce(event_name, event) END",
            "ts": "coalesce(derived_tstamp, collector_tstamp)",
            "received_at": "collector_tstamp",
            "anon_id": "coalesce(domain_userid, json_extract_string(session_, '/userId'))",
            "user_id": "user_id",
            "location": "CASE platform WHEN 'web' THEN 'web_app' WHEN 'mob' THEN 'mobile_app'"
            " WHEN 'pc' THEN 'desktop_app' ELSE 'api' END",
            "session_id": "coalesce(domain_sessionid, json_extract_string(session_, '/sessionId'))",
            "account_id": account,
            "described_account": account,
            "account_name": "json_extract_string(account_, '/name')",
            "account_plan": "json_extract_string(account_, '/plan')",
            "product_id": "product_",
            "url": "page_url",
            "seen_country": "geo_country",
            "seen_source": "mkt_source",
            "is_bookkeeping": "event = 'page_ping'",
        },
        source,
        properties=own_properties("data_", settings, paths=paths),
    )


def roles(settings: ImportSettings) -> Sequence[Role]:
    """Return the enriched events, the only files of an export."""
    return (
        Role(
            "events",
            frozenset({"event_id", "collector_tstamp", "domain_userid"}),
            {
                **text("event", "event_id", "platform", "user_id", "domain_userid", "event_name"),
                **text("domain_sessionid", "geo_country", "mkt_source", "page_url"),
                **text("se_action"),
                **json("contexts", "unstruct_event"),
                **time("derived_tstamp", "collector_tstamp"),
            },
            {"events": _events(settings)},
            names_in_order=NAMES,
        ),
    )


TOOL = Tool(roles, {"page_view": "page_viewed", "screen_view": "screen_viewed"})
