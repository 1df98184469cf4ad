"""Segment and RudderStack: calls as JSON lines, or as the tables of their warehouse layout.

Both tools have the same calls (track, page, screen, identify, group, alias). In the warehouse layout
`tracks` holds every event without its properties, and a table for each event repeats the rows with
them. Sources: Segment's documentation of its spec, of warehouse schemas and of the S3 destination,
RudderStack's documentation of warehouse schemas, and rudder-server.
"""

from __future__ import annotations

from collections.abc import Sequence

from monstera_assets.imports.own_properties import own_properties
from monstera_assets.imports.tools import (
    MOBILE,
    Kind,
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
from monstera_assets.source.sql import literal

_PAGE_PROPERTIES = (
    *("name", "path", "url", "title", "referrer", "search", "category", "keywords", "tab_url"),
    *("referring_domain", "initial_referrer", "initial_referring_domain"),
)
_COMMON = (
    *("id", "anonymous_id", "user_id", "event", "event_text", "timestamp", "original_timestamp"),
    *("sent_at", "received_at", "uuid_ts", "loaded_at", "channel", "path_", "number_"),
    *("_timestamp", "_original_timestamp"),
)
_NAMES = {"page": "page_viewed", "screen": "screen_viewed"}


def _location(channel: str, library: str) -> str:
    return (
        f"CASE WHEN {channel} = 'mobile' THEN 'mobile_app'"
        f" WHEN {channel} IN ('browser', 'client', 'web') THEN 'web_app'"
        f" WHEN {channel} IN ('server', 'sources') THEN 'api'"
        f" WHEN {matches(library, *MOBILE)} THEN 'mobile_app'"
        f" WHEN {matches(library, 'analytics.js', 'javascript', 'web')} THEN 'web_app' ELSE 'api' END"
    )


def _account(settings: ImportSettings, group: str, found: str) -> str:
    if settings.account == "group":
        return group
    return found if settings.account.startswith("property:") else "NULL"


def _calls(settings: ImportSettings) -> Role:
    wanted = settings.account.removeprefix("property:")
    context = {
        "library_": ("library", "name"),
        "page_url_": ("page", "url"),
        "campaign_": ("campaign", "source"),
        "context_group_": ("groupId",),
        "context_account_": ("traits", wanted),
        # RudderStack's identify calls have the traits here.
        "context_email_": ("traits", "email"),
        "context_created_": ("traits", "createdAt"),
        "context_created_too_": ("traits", "created_at"),
        "context_address_country_": ("traits", "address", "country"),
        "context_country_": ("traits", "country"),
    }
    traits = {
        "email_": ("email",),
        "created_": ("createdAt",),
        "created_too_": ("created_at",),
        "address_country_": ("address", "country"),
        "country_": ("country",),
        "name_": ("name",),
        "plan_": ("plan",),
        "trait_account_": (wanted,),
    }
    properties = {"url_": ("url",), "product_": ("product_id",), "property_account_": (wanted,)}
    listed = ", ".join(map(literal, _PAGE_PROPERTIES))
    is_user, is_group = "type = 'identify'", "type = 'group'"
    created = "instant(coalesce(created_, created_too_))"
    user_created = "created_, created_too_, context_created_, context_created_too_"
    country = "address_country_, country_, context_address_country_, context_country_"
    return Role(
        "calls",
        frozenset({"messageId", "type"}),
        {
            **text("messageId", "type", "event", "name", "userId", "anonymousId", "groupId"),
            **text("previousId", "channel"),
            **json("properties", "traits", "context"),
            **time("timestamp", "originalTimestamp", "receivedAt"),
        },
        {
            "events": Select(
                {
                    "event_id": "messageId",
                    "name": "CASE WHEN type = 'track' THEN event ELSE type END",
                    "ts": "coalesce(timestamp, originalTimestamp)",
                    "received_at": "receivedAt",
                    "anon_id": "anonymousId",
                    "user_id": "userId",
                    "location": _location("channel", "library_"),
                    "account_id": _account(
                        settings,
                        f"CASE WHEN {is_group} THEN groupId ELSE context_group_ END",
                        "coalesce(property_account_, trait_account_, context_account_)",
                    ),
                    "described_account": f"CASE WHEN {is_group} THEN groupId END",
                    "account_name": f"CASE WHEN {is_group} THEN name_ END",
                    "account_plan": f"CASE WHEN {is_group} THEN plan_ END",
                    "account_created_at": f"CASE WHEN {is_group} THEN {created} END",
                    "product_id": "product_",
                    "url": "coalesce(page_url_, url_)",
                    "email": f"CASE WHEN {is_user} THEN coalesce(email_, context_email_) END",
                    "country": f"CASE WHEN {is_user} THEN coalesce({country}) END",
                    "created_at": f"CASE WHEN {is_user} THEN instant(coalesce({user_created})) END",
                    "seen_source": "campaign_",
                    "alias_of": "CASE WHEN type = 'alias' THEN previousId END",
                    "is_bookkeeping": "type IN ('identify', 'group', 'alias')",
                },
                extracted("context", context, extracted("traits", traits)),
                properties=own_properties(
                    unchecked("properties"),
                    settings,
                    f"type IN ('page', 'screen') AND k IN ({listed})",
                    properties,
                    varying=_PAGE_PROPERTIES,
                ),
            )
        },
    )


def _warehouse(settings: ImportSettings) -> Sequence[Role]:
    """Return the roles of the warehouse layout, whose tables are recognised by their columns."""
    row = {
        **text("id", "anonymous_id", "user_id"),
        **time("timestamp", "original_timestamp", "received_at"),
        **text("channel", "context_library_name", "context_campaign_source", "context_group_id"),
        **text("context_page_url", "product_id"),
    }
    other_names = {"timestamp": ("_timestamp",), "original_timestamp": ("_original_timestamp",)}
    wanted = settings.account.removeprefix("property:")
    found = f"json_extract_string(row_, {pointer(wanted)})"
    ts = "coalesce(timestamp, original_timestamp, received_at)"

    def events(name: str, url: str, dropped: Sequence[str], *, is_part: bool = False) -> Select:
        listed = ", ".join(map(literal, (*_COMMON, *dropped)))
        return Select(
            {
                "event_id": "id",
                "name": name,
                "ts": ts,
                "received_at": "received_at",
                "anon_id": "anonymous_id",
                "user_id": "user_id",
                "location": _location("channel", "context_library_name"),
                "account_id": _account(settings, "context_group_id", found),
                "product_id": "product_id",
                "url": url,
                "seen_source": "context_campaign_source",
                "is_part": str(is_part).lower(),
            },
            properties=own_properties(
                "row_",
                settings,
                f"k IN ({listed}) OR starts_with(k, 'context_')",
                drop_nulls=True,
            ),
        )

    whole_row = {"row_": Kind.JSON}
    event = text("event", "event_text")
    named = "coalesce(event_text, event)"
    standard = {*_COMMON, *row, *event}
    return (
        Role(
            "aliases",
            frozenset({"id", "previous_id", "user_id"}),
            {**row, **text("previous_id")},
            {
                "ids": Select(
                    {"what": "'alias'", "from_id": "previous_id", "to_id": "user_id", "ts": ts}
                )
            },
            key="previous_id",
            other_names=other_names,
        ),
        Role(
            "groups",
            frozenset({"id", "group_id", "user_id", "timestamp"}),
            {**row, **text("group_id", "name", "plan"), **time("created_at")},
            {
                "users": Select(
                    {
                        "anon_id": "anonymous_id",
                        "user_id": "user_id",
                        "ts": ts,
                        "account_id": _account(settings, "group_id", "NULL"),
                    }
                ),
                "accounts": Select(
                    {
                        "account_id": "group_id",
                        "ts": ts,
                        "name": "name",
                        "plan": "plan",
                        "created_at": "created_at",
                    }
                ),
            },
            key="group_id",
            other_names=other_names,
        ),
        Role(
            "events",
            frozenset({"id", "event", "event_text", "timestamp"}),
            {**row, **event, **whole_row},
            {"events": events(named, "context_page_url", ())},
            other_names=other_names,
            only_columns=frozenset(standard),
        ),
        Role(
            "properties",
            frozenset({"id", "event", "event_text", "timestamp"}),
            {**row, **event, **whole_row},
            {"events": events(named, "context_page_url", (), is_part=True)},
            other_names=other_names,
        ),
        Role(
            "pages",
            frozenset({"id", "url", "path", "timestamp"}),
            {**row, **text("url"), **whole_row},
            {"events": events("'page'", "coalesce(context_page_url, url)", _PAGE_PROPERTIES)},
            other_names=other_names,
        ),
        Role(
            "screens",
            frozenset({"id", "timestamp", "anonymous_id", "name"}),
            {**row, **whole_row},
            {"events": events("'screen'", "context_page_url", _PAGE_PROPERTIES)},
            other_names=other_names,
            file_name="screens",
        ),
        Role(
            "identifies",
            frozenset({"id", "user_id", "timestamp", "anonymous_id"}),
            {
                **row,
                **text("email", "address_country", "country"),
                **time("created_at"),
                **whole_row,
            },
            {
                "users": Select(
                    {
                        "anon_id": "anonymous_id",
                        "user_id": "user_id",
                        "ts": ts,
                        "email": "email",
                        "country": "coalesce(address_country, country)",
                        "account_id": _account(settings, "NULL", found),
                        "created_at": "created_at",
                    }
                )
            },
            key="user_id",
            other_names=other_names,
        ),
        Role(
            "accounts",
            frozenset({"id", "received_at"}),
            {**text("id", "name", "plan"), **time("created_at")},
            {
                "accounts": Select(
                    {
                        "account_id": "id",
                        "name": "name",
                        "plan": "plan",
                        "created_at": "created_at",
                    }
                )
            },
            key="id",
            file_name="accounts",
        ),
        Role(
            "users",
            frozenset({"id", "received_at"}),
            {
                **text("id", "email", "address_country", "country"),
                **time("created_at"),
                **whole_row,
            },
            {
                "users": Select(
                    {
                        "user_id": "id",
                        "email": "email",
                        "country": "coalesce(address_country, country)",
                        "account_id": _account(settings, "NULL", found),
                        "created_at": "created_at",
                    }
                )
            },
            key="id",
            file_name="users",
        ),
    )


def roles(settings: ImportSettings) -> Sequence[Role]:
    """Return the calls of both tools, and the tables of their warehouse layout."""
    return (_calls(settings), *_warehouse(settings))


TOOL = Tool(roles, _NAMES)
