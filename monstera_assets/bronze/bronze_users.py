"""bronze_users: the versions of each user. No other table contains email addresses."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

_SEGMENTS = ("country", "plan_type", "acquisition_source")

TABLE = ma.declare_table(
    "bronze_users",
    group=ma.AssetGroup.INTAKE,
    grain="one version of one user",
    description="Who are the users, and which account and attributes did each of them have on each day?"
    " The view bronze_users_current has one row per user.",
    key=("user_id", "valid_from"),
    columns=(
        ma.Column("user_id", "string", "The user's id."),
        ma.VALID_FROM,
        ma.nullable(
            "email",
            "string",
            "The user's email address, or null if unknown. Email addresses never leave the bronze"
            " layer.",
        ),
        ma.Column(
            "account_id",
            "string",
            "The user's account id.",
            references=ma.Reference("bronze_accounts", "account_id"),
        ),
        ma.Column("user_created_at", "timestamp", "Signup time in UTC."),
        ma.Column("signup_date", "date", "Local signup date."),
        ma.Column(
            "stated_created_at",
            "timestamp",
            "Signup time in the user's first version in UTC. user_created_at is earlier if an alias of"
            " the user signed up earlier.",
        ),
        ma.Column("country", "string", "The user's country."),
        ma.Column("plan_type", "string", "The user's plan."),
        ma.Column("acquisition_source", "string", "The user's acquisition source."),
        ma.nullable(
            "alias_id",
            "string",
            "Alias whose row this version comes from, or null if the row has the user's own id.",
        ),
        ma.FAULTS_COLUMN,
    ),
)

REQUIRED = ("user_id", "user_created_at")
_CONTENT = ("user_id", "email", "account_id", "user_created_at", *_SEGMENTS)
SOURCE_COLUMNS = (*_CONTENT, *ma.STATED_BY)
VERSIONS = ma.Versioning(
    varying=("email", "account_id", *_SEGMENTS),
    first=("stated_created_at",),
    dates={"signup_date": "user_created_at"},
)


def classify(
    rows: ir.Table,
    accounts: ir.Table,
    reading: ma.Reading,
    *,
    has_accounts: bool,
    aliases: ir.Table | None = None,
) -> ir.Table:
    """Return typed rows with a rejection reason, which is null for accepted rows.

    The rules also apply to rows under an alias, which `settle_users` sets aside later.

    Args:
        rows: staged rows.
        accounts: bronze_accounts.
        reading: rules for reading values.
        has_accounts: whether the source contains accounts. If not, a user without an account gets
            an account with the user's id.
        aliases: the result of `merging_aliases`. If not None, a column marks the rows under an alias.
    """
    rows = ma.typed(rows, (*TABLE.columns, ma.UPDATED_AT), reading)
    rows = ma.with_stated_day(rows, reading)
    if not has_accounts:
        rows = rows.mutate(account_id=ibis.coalesce(rows.account_id, rows.user_id))
    rows, unknown_account = ma.unknown_reference(rows, "account_id", accounts, "unknown_account")
    signup_date = reading.trusted_date(rows.user_created_at)
    rules = [
        *ma.missing(rows, REQUIRED),
        *ma.unreadable(rows, ["user_created_at"]),
        ("before_earliest_event_date", signup_date.isnull()),
        ("missing_account_id", rows.account_id.isnull()),
    ]
    if has_accounts:
        rules.append(unknown_account)
    if aliases is not None:
        known = aliases.select(known_alias=aliases.alias_id)
        rows = rows.left_join(known, rows.user_id == known.known_alias)
        rows = rows.mutate(**{ma.UNDER_ALIAS: rows.known_alias.notnull()}).drop("known_alias")
    rows = ma.with_reason(
        rows.mutate(
            signup_date=signup_date,
            stated_created_at=rows.user_created_at,
            alias_id=ibis.null("string"),
            **{name: rows[name].fill_null("unknown") for name in _SEGMENTS},
            **{ma.FAULTS: ma.fault_names(ma.faults_of_day(rows))},
        ),
        rules,
    )
    return ma.settle_versions(rows, "user_id", _CONTENT)


def of_events(events: ir.Table, reading: ma.Reading) -> ir.Table:
    """Return one user per entity of type user, with the first accepted event as the creation time.

    Args:
        events: classified events.
        reading: rules for reading values.
    """
    accepted = events.filter(events[ma.REASON].isnull(), events.entity_type == "user")
    users = accepted.group_by(user_id=accepted.entity_id).aggregate(
        user_created_at=accepted.event_timestamp.min()
    )
    return users.select(
        "user_id",
        "user_created_at",
        valid_from=ma.first_day_of_undated(),
        email=ibis.null("string"),
        account_id=users.user_id,
        signup_date=reading.local_date(users.user_created_at),
        stated_created_at=users.user_created_at,
        alias_id=ibis.null("string"),
        **{name: ibis.literal("unknown") for name in _SEGMENTS},
        **{ma.FAULTS: ibis.null("string")},
    )


@ma.rule(TABLE)
def no_user_is_an_alias(bronze_users: ir.Table, bronze_user_aliases: ir.Table) -> ir.Table:
    """No version is stored under an id that is replaced as an alias."""
    aliases = bronze_user_aliases.filter(
        bronze_user_aliases.merged_user_id != bronze_user_aliases.alias_id
    )
    found = bronze_users.semi_join(aliases, bronze_users.user_id == aliases.alias_id)
    return found.select("user_id", "valid_from")
