"""gold_accounts_needing_attention: accounts that may churn or contract, and why."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.gold import authoring as ma
from monstera_assets.gold.churn_risk import HIGH
from monstera_assets.prediction.churn_scores import BANDS, REASONS
from monstera_assets.silver.silver_account_state_intervals import ACCOUNT_COLUMN, STATE_COLUMNS

STATES = (ma.AccountState.AT_RISK, ma.AccountState.CONTRACTING, ma.AccountState.FROZEN)
"""States in which accounts need attention regardless of their churn scores."""

_OF_STATE = {column.name: column for column in STATE_COLUMNS}

TABLE = ma.declare_table(
    "gold_accounts_needing_attention",
    group=ma.AssetGroup.ACCOUNTS,
    grain="one account that is at risk, contracting or frozen, or has a high churn risk",
    description="Which accounts need attention on the as-of date, and why? MRR at risk is the sum of"
    " monthly_recurring_revenue over this table.",
    key=("account_id",),
    columns=(
        *ma.columns(
            "int64",
            attention_rank="Rank by monthly_recurring_revenue or, for lapsed accounts, by"
            " revenue_before_lapse, where 1 is the highest.",
        ),
        ACCOUNT_COLUMN,
        *ma.columns(
            "string",
            why="The rule that led to the state, the main reasons for a high churn risk, or both.",
        ),
        *(_OF_STATE[name] for name in ("current_state", "state_since", "frozen_reason")),
        _OF_STATE["monthly_recurring_revenue"],
        *ma.columns(
            "decimal(18, 2)",
            nullable=True,
            revenue_before_lapse="Last monthly recurring revenue above 0 of a lapsed account, in the"
            " reporting currency; null if the account pays. This revenue has churned already, so it"
            " is not part of MRR at risk.",
        ),
        _OF_STATE["days_to_renewal"],
        ma.share(
            "churn_probability",
            "Probability of a lapse in the 90 days after the as-of date, between 0 and 1; null if the"
            " account has lapsed, if no past outcome is known, or without the extra `predict`.",
        ),
        ma.Column(
            "risk_band",
            "string",
            "Risk band for the probability; null if the probability is null or a base rate.",
            nullable=True,
            allowed=BANDS,
        ),
        _OF_STATE["health_score"],
        *ma.columns(
            "float64",
            nullable=True,
            health_change_30="Change in the health score over 30 days, in points; null if the"
            " account is less than 30 days old or has lapsed, or without the extra `predict`.",
        ),
        *(_OF_STATE[name] for name in ("active_seats", "total_seats")),
        *ma.columns(
            "int64",
            users_scored="Number of the account's users with a churn score.",
            users_at_high_risk="Number of the account's users with a high churn risk.",
        ),
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(
    TABLE,
    previews=[ma.distribution("accounts", "current_state")],
)
def gold_accounts_needing_attention(
    silver_account_current_state: ir.Table,
    silver_account_state_intervals: ir.Table,
    gold_account_churn_scores: ir.Table,
    gold_user_churn_scores: ir.Table,
) -> ir.Table:
    """Select accounts by state and churn risk, and rank them by revenue."""
    scores = gold_account_churn_scores.select(
        "account_id",
        "churn_probability",
        "risk_band",
        "health_change_30",
        risk_reasons=_raising(gold_account_churn_scores),
    )
    users = gold_user_churn_scores
    users = users.group_by("account_id").aggregate(
        users_scored=users.count(), users_at_high_risk=users.count(where=users.risk_band == HIGH)
    )
    accounts = ma.left_joined(silver_account_current_state, scores, on=["account_id"])
    is_high = (accounts.risk_band == HIGH).fill_null(False)
    is_of_state = accounts.current_state.isin([str(state) for state in STATES])
    accounts = accounts.mutate(is_high=is_high, is_of_state=is_of_state)
    accounts = accounts.filter(accounts.is_high | accounts.is_of_state)
    last_paid = _last_paid(silver_account_state_intervals)
    accounts = ma.left_joined(accounts, last_paid, users, on=["account_id"])
    before_lapse = ibis.ifelse(accounts.is_paid, None, accounts.last_paid.fill_null(0))
    revenue = ibis.ifelse(accounts.is_paid, accounts.monthly_recurring_revenue, before_lapse)
    by_revenue = [revenue.desc(), accounts.churn_probability.desc(), accounts.account_id]
    high = ibis.literal("high churn risk") + accounts.risk_reasons
    by_state = accounts.current_state.replace("_", " ") + ": " + accounts.state_reason
    return accounts.mutate(
        attention_rank=ibis.row_number().over(ibis.window(order_by=by_revenue)) + 1,
        why=ibis.cases(
            (accounts.is_of_state & accounts.is_high, by_state + "; " + high),
            (accounts.is_high, high),
            else_=by_state,
        ),
        revenue_before_lapse=before_lapse.cast("decimal(18, 2)"),
        users_scored=accounts.users_scored.fill_null(0),
        users_at_high_risk=accounts.users_at_high_risk.fill_null(0),
    ).select([column.name for column in TABLE.columns])


def _raising(scores: ir.Table) -> ir.StringValue:
    """Return a colon and the reasons that raise a score, or an empty string if no reason does."""
    words = ibis.literal("")
    for place in range(1, REASONS + 1):
        raises = (scores[f"reason_{place}_effect"] > 0).fill_null(False)
        words = words + ibis.ifelse(raises, "; " + scores[f"reason_{place}"], "")
    return ibis.ifelse(words == "", "", ibis.literal(": ") + words.substr(len("; ")))


def _last_paid(intervals: ir.Table) -> ir.Table:
    paid = intervals.filter(intervals.monthly_recurring_revenue > 0)
    return paid.group_by("account_id").aggregate(
        last_paid=ma.first_of(
            paid.monthly_recurring_revenue, order_by=[-ma.day_number(paid.valid_from)]
        )
    )


@ma.rule(TABLE)
def all_are_listed(
    gold_accounts_needing_attention: ir.Table,
    silver_account_current_state: ir.Table,
    gold_account_churn_scores: ir.Table,
) -> ir.Table:
    """The accounts listed are exactly those at risk, contracting, frozen or at high churn risk.

    Their monthly recurring revenue, which adds up to MRR at risk, is that of the as-of date.
    """
    high = gold_account_churn_scores.filter(gold_account_churn_scores.risk_band == HIGH)
    accounts = silver_account_current_state
    of_state = accounts.filter(accounts.current_state.isin([str(state) for state in STATES]))
    listed = of_state.select("account_id").union(high.select("account_id"), distinct=True)
    columns = ("account_id", "monthly_recurring_revenue")
    expected = accounts.semi_join(listed, "account_id").select(*columns)
    return ma.differing_rows(gold_accounts_needing_attention.select(*columns), expected)


@ma.rule(TABLE)
def ranks_follow_revenue(gold_accounts_needing_attention: ir.Table) -> ir.Table:
    """Ranks start at 1, have no gaps and follow revenue, which is never negative."""
    rows = gold_accounts_needing_attention
    in_order = ibis.window(order_by="attention_rank")
    rows = rows.mutate(
        revenue=ibis.coalesce(rows.revenue_before_lapse, rows.monthly_recurring_revenue)
    )
    rows = rows.mutate(
        place=ibis.row_number().over(in_order) + 1, before=rows.revenue.lag().over(in_order)
    )
    return rows.filter(
        (rows.place != rows.attention_rank)
        | (rows.revenue < 0)
        | (rows.before < rows.revenue).fill_null(False)
    ).select("account_id", "attention_rank", "revenue")
