"""bronze_accounts: the versions of each account."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze import authoring as ma

TABLE = ma.declare_table(
    "bronze_accounts",
    group=ma.AssetGroup.INTAKE,
    grain="one version of one account",
    description="What did the source contain about each account on each day? Billing facts that no"
    " subscription event sets come from this table. The view bronze_accounts_current has one row per"
    " account.",
    key=("account_id", "valid_from"),
    columns=(
        ma.Column("account_id", "string", "The account's id."),
        ma.VALID_FROM,
        ma.Column(
            "account_name", "string", "The account's name, which never leaves the bronze layer."
        ),
        ma.Column("subscription_tier", "string", "The account's subscription tier."),
        ma.nullable(
            "total_seats",
            "int64",
            "Number of purchased seats. If the value is null, the account has one seat per user.",
        ),
        ma.Column("account_created_at", "timestamp", "Time of account creation in UTC."),
        ma.Column("created_date", "date", "Local date of account creation."),
        ma.Column(
            "first_paid_at",
            "timestamp",
            "Time of the first payment in UTC, or null if no payment has been made.",
            nullable=True,
        ),
        ma.nullable(
            "first_paid_date",
            "date",
            "Local date of the first payment, or null if no payment has been made.",
        ),
        ma.Column(
            "contract_renewal_date",
            "date",
            "Contract renewal date, or null if the contract is open-ended or no payment has been"
            " made.",
            nullable=True,
        ),
        ma.Column(
            "monthly_recurring_revenue",
            "decimal(18, 2)",
            "Monthly recurring revenue in the reporting currency.",
        ),
        ma.Column("is_trial", "boolean", "Whether the account is on trial."),
        ma.FAULTS_COLUMN,
    ),
)


REQUIRED = ("account_id", "account_created_at")
_READ = (
    *("total_seats", "first_paid_at", "contract_renewal_date", "monthly_recurring_revenue"),
    "is_trial",
)
_VARYING = (
    *("account_name", "subscription_tier", "total_seats", "contract_renewal_date"),
    *("monthly_recurring_revenue", "is_trial"),
)
_CONTENT = ("account_id", "account_created_at", "first_paid_at", *_VARYING)
SOURCE_COLUMNS = (*_CONTENT, *ma.STATED_BY)
VERSIONS = ma.Versioning(
    varying=_VARYING,
    first=("account_created_at",),
    latest=("first_paid_at",),
    dates={"created_date": "account_created_at", "first_paid_date": "first_paid_at"},
)


def classify(rows: ir.Table, reading: ma.Reading) -> ir.Table:
    """Return typed rows with a rejection reason, which is null for accepted rows."""
    rows = ma.typed(rows, (*TABLE.columns, ma.UPDATED_AT), reading)
    rows = ma.with_stated_day(rows, reading)
    rows = rows.mutate(
        total_seats=ibis.ifelse(rows.total_seats < 0, None, rows.total_seats),
        monthly_recurring_revenue=ibis.ifelse(
            rows.monthly_recurring_revenue < 0, None, rows.monthly_recurring_revenue
        ),
    )
    created_date = reading.trusted_date(rows.account_created_at)
    faults = [
        *ma.unreadable(rows, _READ),
        *ma.faults_of_day(rows),
        ("unknown_subscription_tier", rows.subscription_tier.notin(reading.tiers)),
    ]
    rules = [
        *ma.missing(rows, REQUIRED),
        *ma.unreadable(rows, ["account_created_at"]),
        ("before_earliest_event_date", created_date.isnull()),
    ]
    tier = rows.subscription_tier.fill_null("unknown")
    rows = ma.with_reason(
        rows.mutate(
            created_date=created_date,
            first_paid_date=reading.local_date(rows.first_paid_at),
            account_name=ibis.coalesce(rows.account_name, rows.account_id),
            subscription_tier=tier,
            monthly_recurring_revenue=rows.monthly_recurring_revenue.fill_null(0),
            is_trial=ibis.coalesce(rows.is_trial, tier == "trial"),
            **{ma.FAULTS: ma.fault_names(faults)},
        ),
        rules,
    )
    return ma.settle_versions(rows, "account_id", _CONTENT)


def of_users(users: ir.Table, reading: ma.Reading, *, has_billing: bool) -> ir.Table:
    """Return one account per account id in `users`, with the first signup as its creation time.

    Args:
        users: accepted users, with `account_id` filled in.
        reading: rules for reading values.
        has_billing: whether billing facts exist. If not, accounts are treated as paid since creation.
    """
    accounts = users.group_by("account_id").aggregate(
        account_created_at=users.user_created_at.min()
    )
    created_date = reading.local_date(accounts.account_created_at)
    return accounts.select(
        "account_id",
        "account_created_at",
        valid_from=ma.first_day_of_undated(),
        account_name=accounts.account_id,
        subscription_tier=ibis.literal("unknown"),
        total_seats=ibis.null("int64"),
        created_date=created_date,
        first_paid_at=ibis.null("timestamp") if has_billing else accounts.account_created_at,
        first_paid_date=ibis.null("date") if has_billing else created_date,
        contract_renewal_date=ibis.null("date"),
        monthly_recurring_revenue=ibis.literal(0).cast("decimal(18, 2)"),
        is_trial=ibis.literal(False),
        **{ma.FAULTS: ibis.null("string")},
    )
