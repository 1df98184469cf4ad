"""silver_account_current_state: each account's state and health on the as-of date."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.lifecycle.billing import facts_on_lapsed
from monstera_assets.lifecycle.timezone import UTC
from monstera_assets.silver import state_tables
from monstera_assets.silver.silver_account_state_intervals import STATE_COLUMNS, states_on

UNKNOWN_TIER = "unknown"
"""The tier of an account if the source does not specify a tier."""

TABLE = ma.declare_table(
    "silver_account_current_state",
    group=ma.AssetGroup.ACCOUNTS,
    grain="one account",
    description="What are each account's current state and health? Values reflect the end of the"
    " as-of date, the latest day in the history.",
    key=("account_id",),
    columns=(ma.ACCOUNT_ID, *STATE_COLUMNS, ma.AS_OF_DATE, ma.STATE_UPDATED_AT),
)


@ma.table_asset(
    TABLE, previews=[ma.distribution("accounts", name) for name in ("current_state", "health_band")]
)
def silver_account_current_state(
    silver_account_state_intervals: ir.Table, *, timezone: str = UTC
) -> ir.Table:
    """Return the intervals that contain the as-of date."""
    now = state_tables.current(silver_account_state_intervals, timezone)
    states = states_on(now, ma.day_number(now.as_of_date))
    return now.select("account_id", "as_of_date", "state_updated_at", **states)


agrees_with_history = state_tables.agrees_with_history(TABLE, "silver_account_state_history")


@ma.rule(
    TABLE,
    blocking=False,
    remedy="Export the accounts again, or deliver the missing subscription events.",
)
def accounts_table_is_up_to_date(
    silver_account_current_state: ir.Table, bronze_accounts: ir.Table
) -> ir.Table:
    """bronze_accounts matches the latest subscription events for every paid account."""
    current = silver_account_current_state
    paid = current.filter(
        current.days_to_renewal.notnull() | (current.monthly_recurring_revenue > 0)
    )
    in_table = {
        "subscription_tier": "table_tier",
        "total_seats": "table_seats",
        "monthly_recurring_revenue": "table_revenue",
        "contract_renewal_date": "table_renewal_date",
    }
    accounts = ma.version_intervals(bronze_accounts, "account_id", list(in_table))
    accounts = accounts.rename({there: name for name, there in in_table.items()})
    both = ma.at_day(paid, ma.day_number(paid.as_of_date), accounts, "account_id")
    # If the source does not specify seats, the current number of seats is the number of users.
    both = both.mutate(table_seats=ibis.coalesce(both.table_seats, both.total_seats))
    return both.filter(
        ibis.or_(*(~both[name].identical_to(both[there]) for name, there in in_table.items()))
    ).select("account_id", *(column for pair in in_table.items() for column in pair))


@ma.rule(
    TABLE,
    blocking=False,
    remedy="Add the tier to the setting subscription_tiers, or correct it in the source.",
)
def tiers_are_in_the_list(
    silver_account_current_state: ir.Table, *, policy: ma.LifecyclePolicy
) -> ir.Table:
    """Each account's tier is in subscription_tiers, or the source does not specify a tier."""
    current = silver_account_current_state
    known = [*policy.subscription_tiers, UNKNOWN_TIER]
    return current.filter(current.subscription_tier.notin(known)).select(
        "account_id", "subscription_tier"
    )


@ma.rule(
    TABLE,
    blocking=False,
    remedy="Check whether a renewal is missing, or end the users' access.",
)
def nobody_is_active_on_a_lapsed_account(
    silver_account_current_state: ir.Table, silver_user_current_state: ir.Table
) -> ir.Table:
    """No user is active on an account whose subscription has lapsed."""
    accounts, users = silver_account_current_state, silver_user_current_state
    lapsed = accounts.filter(accounts.state_reason.startswith("subscription lapsed"))
    active = users.filter(users.platform_state == ma.UserState.ACTIVE)
    return active.inner_join(
        lapsed.select("account_id", "state_reason", account_state="current_state"), "account_id"
    ).select("user_id", "account_id", "account_state", "state_reason")


@ma.rule(
    TABLE,
    blocking=False,
    remedy="Deliver the missing start, renewal or recovery, or correct the facts' dates.",
)
def facts_on_lapsed_subscriptions(
    silver_account_current_state: ir.Table,
    bronze_accounts: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """Every billing fact is on a subscription that had not lapsed, or resumes the subscription."""
    now = silver_account_current_state.select("account_id", "as_of_date")
    facts = facts_on_lapsed(bronze_accounts, bronze_subscription_events, policy)
    facts = facts.inner_join(now, "account_id")
    facts = facts.filter(facts.day <= ma.day_number(facts.as_of_date))
    return facts.select(
        *("account_id", "subscription_id", "event_id", "event_type"),
        event_date=ma.day_date(facts.day),
        ended_on=ma.day_date(facts.ended_on),
    )


@ma.rule(
    TABLE,
    blocking=False,
    remedy="State subscription_id in all billing facts of these accounts, or in none.",
)
def facts_name_their_subscriptions(
    silver_account_current_state: ir.Table, bronze_subscription_events: ir.Table
) -> ir.Table:
    """For each account, either all billing facts state a subscription_id or none do."""
    facts = bronze_subscription_events.filter(bronze_subscription_events.entity_type == "account")
    facts = facts.semi_join(
        silver_account_current_state.select(entity_id="account_id"), "entity_id"
    )
    counts = facts.group_by(account_id="entity_id").aggregate(
        facts_with_subscription_id=facts.count(where=facts.subscription_id.notnull()),
        facts_without_subscription_id=facts.count(where=facts.subscription_id.isnull()),
    )
    return counts.filter(
        counts.facts_with_subscription_id > 0, counts.facts_without_subscription_id > 0
    )


@ma.rule(
    TABLE,
    blocking=False,
    remedy="Add the currency to the setting exchange_rates.",
)
def currencies_have_a_rate(
    silver_account_current_state: ir.Table,
    bronze_subscription_events: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
) -> ir.Table:
    """Each currency of an amount is reporting_currency or has a rate in exchange_rates."""
    known = [policy.reporting_currency, *(currency for currency, _ in policy.exchange_rates)]
    facts = bronze_subscription_events
    facts = facts.filter(
        facts.entity_type == "account",
        facts.monthly_recurring_revenue.notnull(),
        facts.currency.notin(known),
    ).semi_join(silver_account_current_state.select(entity_id="account_id"), "entity_id")
    return facts.group_by("currency").aggregate(
        facts=facts.count(),
        accounts=facts.entity_id.nunique(),
        first_day=facts.event_date.min(),
        last_day=facts.event_date.max(),
    )
