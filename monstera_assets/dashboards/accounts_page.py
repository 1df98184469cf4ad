"""The accounts page: health, states, and the list of all accounts and people that have a page."""

from __future__ import annotations

from monstera_assets.dashboards import authoring as ma
from monstera_assets.dashboards.lifecycle_page import moves_figure, states_now, states_over_time
from monstera_assets.gold import gold_overall_metrics as overall
from monstera_assets.gold import gold_revenue_metrics as revenue
from monstera_assets.silver.silver_account_current_state import TABLE as CURRENT
from monstera_assets.silver.silver_user_current_state import TABLE as USERS

_HEALTH = {
    ma.HealthBand.EXCELLENT: "90 or more",
    ma.HealthBand.GOOD: "70 to 90",
    ma.HealthBand.FAIR: "50 to 70",
    ma.HealthBand.POOR: "30 to 50",
    ma.HealthBand.CRITICAL: "below 30",
}


def accounts_page(reader: ma.Reader) -> ma.Page:
    """Create the accounts page."""
    daily, money = reader.daily(overall.TABLE), reader.daily(revenue.TABLE)
    over_time = [
        states_over_time(reader, "Accounts"),
        ma.trend("Health", daily, {overall.HEALTH: "Health"}),
        moves_figure(reader, "Accounts"),
    ]
    return ma.Page(
        "accounts.html",
        "Accounts",
        "Each account's state, health and revenue. Filter the lists to find anyone by id.",
        [
            *ma.tiles(daily, overall.ACCOUNTS_ACTIVE, overall.HEALTH),
            *ma.tiles(money, revenue.ACCOUNTS_PAYING, revenue.REVENUE_CLOSING),
        ],
        [
            ma.Section(
                "Find an account or a person", [_account_list(reader), _people_list(reader)]
            ),
            ma.Section("Now", [_health(reader), states_now(reader, "Accounts")]),
            ma.Section("Over time", over_time),
        ],
    )


@ma.item("Accounts by health", "Accounts, Health, Latest Day, by Band")
def _health(reader: ma.Reader) -> ma.Item:
    select = "SELECT health_band, count(*) FROM silver_account_current_state GROUP BY ALL"
    found = reader.counts(select)
    bands = [(f"{ma.words(band)}, {score}", found.get(band, 0)) for band, score in _HEALTH.items()]
    parts = ("seat_utilization", "product_breadth", "recent_activity", "contract_status")
    shown = ["health_band", "health_score", *(f"{part}_score" for part in parts)]
    return ma.bars("accounts", bands, ma.about(CURRENT, *shown), name="Health", whole=True)


@ma.item("All accounts", "Accounts, State Health and MRR, Latest Day, by Account")
def _account_list(reader: ma.Reader) -> ma.Item:
    fields = {
        "account_id": ma.Field("account", "Account"),
        "current_state": ma.Field("state", "State"),
        "state_since": ma.Field("since", "Since", ma.DAY),
        "health_score": ma.Field("health", "Health", ",.0f"),
        "monthly_recurring_revenue": ma.Field("mrr", f"MRR ({reader.wording.currency})", ",.2f"),
        "contract_renewal_date": ma.Field("renewal", "Renewal", ma.DAY),
    }
    [(count,)] = reader.ask("SELECT count(*) FROM silver_account_current_state")
    rows = reader.ask(
        f"SELECT {', '.join(fields)} FROM silver_account_current_state"
        " WHERE account_id IN (SELECT unnest($ids))"
        " ORDER BY monthly_recurring_revenue DESC, account_id",
        ids=[*reader.accounts],
    )
    ma.require(rows, "There are no accounts with a page.")
    more = (
        f"{len(rows):,} have a page. The command monstera account ID opens the page of any other."
    )
    return ma.Listing(
        f"{ma.plural(count, 'account')}. Each id opens the account's page.",
        [*fields.values()],
        [(account, ma.words(state), *row) for account, state, *row in rows],
        ma.about(CURRENT, *[*fields][1:]),
        {"account": reader.accounts},
        more if count > len(rows) else "",
    )


@ma.item("People", "Users, at High Risk, Latest Day, by User")
def _people_list(reader: ma.Reader) -> ma.Item:
    rows = reader.ask(
        "SELECT user_id, platform_state, platform_state_since, account_id"
        " FROM silver_user_current_state WHERE user_id IN (SELECT unnest($ids)) ORDER BY user_id",
        ids=[*reader.people],
    )
    command = "The command monstera person ID opens the page of any"
    ma.require(rows, f"No one has a page. {command} person.")
    has = "person has" if len(rows) == 1 else "people have"
    return ma.Listing(
        f"{len(rows):,} {has} a page: those at high risk that pages list.",
        [
            *(ma.Field("person", "Person"), ma.Field("state", "State")),
            *(ma.Field("since", "Since", ma.DAY), ma.Field("account", "Account")),
        ],
        [(user, ma.words(state), *row) for user, state, *row in rows],
        ma.about(USERS, "platform_state"),
        {"person": reader.people, "account": reader.accounts},
        f"{command} other person.",
    )
