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
    return ma.Page(
        file=ma.ACCOUNTS,
        title="Accounts",
        lead="Each account's state, health and revenue. Filter the lists to find anyone by id.",
        up=(ma.HOME_LINK,),
        tiles=(
            *ma.tiles(daily, (overall.ACCOUNTS_ACTIVE, overall.HEALTH)),
            *ma.tiles(money, (revenue.ACCOUNTS_PAYING, revenue.REVENUE_CLOSING)),
        ),
        sections=(
            ma.section("Find an account or a person", [account_list(reader), people_list(reader)]),
            ma.section("Now", [health(reader), states_now(reader, "Accounts")]),
            ma.section(
                "Over time",
                [
                    states_over_time(reader, "Accounts"),
                    ma.trend("Health", daily, {overall.HEALTH: "Health"}, ma.LAST_18_MONTHS),
                    moves_figure(reader, "Accounts"),
                ],
            ),
        ),
    )


@ma.item(ma.head("Accounts by health", "Accounts", "Health", ma.LATEST_DAY.name, by="Band"))
def health(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """Chart accounts by health band."""
    select = f"SELECT health_band, count(*) FROM {CURRENT.qualified_name} GROUP BY ALL"
    found = dict(reader.rows([CURRENT], select))
    bands = [(f"{ma.words(band)}, {score}", found.get(band, 0)) for band, score in _HEALTH.items()]
    parts = ("seat_utilization", "product_breadth", "recent_activity", "contract_status")
    described = ma.about_columns(
        CURRENT, ["health_band", "health_score", *(f"{part}_score" for part in parts)]
    )
    return ma.bars(heading, "accounts", bands, described, name="Health", whole=True)


@ma.item(
    ma.head("All accounts", "Accounts", "State Health and MRR", ma.LATEST_DAY.name, by="Account")
)
def account_list(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """List the accounts that have a page, highest revenue first."""
    fields = {
        "account_id": ma.Field("account", "Account"),
        "current_state": ma.Field("state", "State"),
        "state_since": ma.Field("since", "Since", ma.DAY),
        "health_score": ma.Field("health", "Health", ",.0f"),
        "monthly_recurring_revenue": ma.Field("mrr", f"MRR ({reader.wording.currency})", ",.2f"),
        "contract_renewal_date": ma.Field("renewal", "Renewal", ma.DAY),
    }
    [(count,)] = reader.rows([CURRENT], f"SELECT count(*) FROM {CURRENT.qualified_name}")
    rows = reader.ask(
        [CURRENT],
        f"SELECT {', '.join(fields)} FROM {CURRENT.qualified_name}"
        " WHERE account_id IN (SELECT unnest($ids))"
        " ORDER BY monthly_recurring_revenue DESC, account_id",
        {"ids": [*reader.accounts]},
    )
    if not rows:
        return ma.Unavailable(*heading, "There are no accounts with a page.")
    finding = f"{ma.plural(count, 'account')}. Each id opens the account's page."
    footnote = (
        f"{len(rows):,} have a page. The command monstera account ID opens the page of any other."
        if count > len(rows)
        else ""
    )
    described = ma.about_columns(CURRENT, [*fields][1:])
    links = {"account": reader.accounts}
    shown = [(row[0], ma.words(row[1]), *row[2:]) for row in rows]
    fields_shown = [*fields.values()]
    return ma.listing(
        heading, finding, fields_shown, shown, described, links=links, footnote=footnote
    )


@ma.item(ma.head("People", "Users", "at High Risk", ma.LATEST_DAY.name, by="User"))
def people_list(heading: ma.Head, reader: ma.Reader) -> ma.Item:
    """List the people who have a page."""
    rows = reader.ask(
        [USERS],
        f"SELECT user_id, platform_state, platform_state_since, account_id FROM {USERS.qualified_name}"
        " WHERE user_id IN (SELECT unnest($ids)) ORDER BY user_id",
        {"ids": [*reader.people]},
    )
    if not rows:
        return ma.Unavailable(
            *heading,
            "No one has a page. The command monstera person ID opens the page of any person.",
        )
    fields = [
        *(ma.Field("person", "Person"), ma.Field("state", "State")),
        *(ma.Field("since", "Since", ma.DAY), ma.Field("account", "Account")),
    ]
    shown = [(user, ma.words(state), since, account) for user, state, since, account in rows]
    has = "person has" if len(rows) == 1 else "people have"
    finding = f"{len(rows):,} {has} a page: those at high risk that pages list."
    footnote = "The command monstera person ID opens the page of any other person."
    described = ma.about_columns(USERS, ["platform_state"])
    links = {"person": reader.people, "account": reader.accounts}
    return ma.listing(heading, finding, fields, shown, described, links=links, footnote=footnote)
