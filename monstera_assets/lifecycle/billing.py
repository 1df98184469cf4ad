"""Billing facts of accounts: subscription terms, their ends, and the days of payment failure.

An account's subscription events fall into *terms*: each begins with a start or a renewal (or with
the first payment that only the accounts table knows) and reaches to the day before the next. Within
a term a subscription can end once, for one of three reasons, and after that nothing changes until
the next term (framework, section 5, "Billing facts").

Two of the reasons, a cancellation reaching its effective date and a failure open too long, depend on
the term's own events alone. The third, a renewal date reached with no failure or pause open, also
depends on a pause carried over from the term before. Each term is therefore evaluated for both
cases, carried in or not. A term either passes the pause on, drops it, or ends it with the
subscription, so the case that holds is that of the latest term whose outcome does not depend on its
own case; one window function over the terms finds it.

Days are numbers, as everywhere in the engine (see `intervals`).
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.intervals import FOREVER, day_number
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import DunningType

_STARTED, _RENEWED = "subscription_started", "subscription_renewed"
_FAILED, _RECOVERED = "payment_failed", "payment_recovered"
_PAUSED, _RESUMED = "subscription_paused", "subscription_resumed"
_CANCELLED = "subscription_cancelled"
_FIRST_PAYMENT = "first_payment"
_OPENERS = (_STARTED, _RENEWED, _FIRST_PAYMENT)


def dunning_intervals(
    accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """The days on which an account has an open payment failure.

    Args:
        accounts: bronze_accounts.
        subscription_events: bronze_subscription_events.
        policy: `dunning_days`.

    Returns:
        Sparse interval table by `account_id`: `dunning_type`, `dunning_since` (day number),
        `begun_by_event_id` (the first open failure) and `ended_by_event_id` (the event that closes
        it, null if the subscription ends first).
    """
    steps = _steps(accounts, subscription_events)
    ends = subscription_terms(accounts, subscription_events, policy).select(
        "account_id", "term", "ends_on"
    )
    steps = steps.inner_join(ends, ["account_id", "term"])
    open_days = steps.filter(
        steps.failure_open & (steps.day <= steps.ends_on.fill_null(FOREVER))
    ).mutate(
        until=ibis.least(ibis._.holds_until, ibis._.ends_on),
        outlives_term=ibis._.ends_on.isnull() | (ibis._.ends_on > ibis._.holds_until),
    )
    plain = ibis.ifelse(open_days.open_failures > 1, str(DunningType.HARD), str(DunningType.SOFT))
    parts = []
    for dunning_type, first, last in (
        (ibis.literal(str(DunningType.GRACE_PERIOD)), open_days.day, open_days.grace_until),
        (
            plain,
            ibis.greatest(open_days.day, open_days.grace_until + 1),
            ibis.literal(FOREVER, "int64"),
        ),
    ):
        part = open_days.select(
            "account_id",
            valid_from=first.cast("int64"),
            part_to=last.cast("int64"),
            until=open_days.until,
            dunning_type=dunning_type,
            dunning_since=open_days.failure_since,
            begun_by_event_id=open_days.failure_event_id,
            ended_by_event_id=ibis.ifelse(
                open_days.outlives_term, open_days.closing_event_id, None
            ),
        )
        part = part.filter(part.part_to.notnull()).mutate(
            valid_to=ibis.least(ibis._.part_to, ibis._.until)
        )
        parts.append(part.filter(part.valid_from <= part.valid_to).drop("part_to", "until"))
    return ibis.union(*parts)


def subscription_terms(
    accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """The terms of each account's subscription and the day on which it ends within them.

    Returns:
        One row an account and term: `account_id`, `term` (from 1), `opener` (event type), `from_day`,
        `last_day` (the day before the next term, or `FOREVER`) and `ends_on` (the last paid day of a
        subscription that ends within the term, else null).
    """
    steps = _steps(accounts, subscription_events)
    in_force = steps.holds_until
    cancelled_on = ibis.ifelse(
        steps.event_type == _CANCELLED,
        ibis.greatest(steps.effective_day, steps.day),
        None,
    )
    overdue_on = ibis.ifelse(
        steps.failure_open,
        ibis.greatest(steps.day, steps.failure_since + policy.dunning_days),
        None,
    )
    renewal_due_on = ibis.ifelse(
        ~steps.failure_open & steps.renewal_day.notnull(),
        ibis.greatest(steps.day, steps.renewal_day),
        None,
    )
    terms = (
        steps.mutate(
            hard_end=ibis.least(
                ibis.ifelse(cancelled_on <= steps.term_last, cancelled_on, None),
                ibis.ifelse(overdue_on <= in_force, overdue_on, None),
            ),
            due_unless_paused=ibis.ifelse(renewal_due_on <= in_force, renewal_due_on, None),
        )
        .group_by("account_id", "term")
        .aggregate(
            opener=ibis._.event_type.max(where=ibis._.event_type.isin(_OPENERS)),
            from_day=ibis._.day.min(),
            last_day=ibis._.term_last.max(),
            hard_end=ibis._.hard_end.min(),
            due=ibis._.due_unless_paused.min(where=~ibis._.paused.fill_null(False)),
            due_if_carried=ibis._.due_unless_paused.min(where=~ibis._.paused.fill_null(True)),
            paused_at_end=ibis._.paused.argmax(ibis._.step),
        )
    )
    terms = terms.mutate(
        end=ibis.least(terms.hard_end, terms.due),
        end_if_carried=ibis.least(terms.hard_end, terms.due_if_carried),
    )
    passes_on = terms.end.isnull() & terms.paused_at_end.fill_null(False)
    passes_on_if_carried = terms.end_if_carried.isnull() & terms.paused_at_end.fill_null(True)
    terms = terms.mutate(
        outcome=ibis.ifelse(passes_on == passes_on_if_carried, passes_on.cast("int8"), None)
    )
    terms = carry_forward(terms, "outcome", group_by=["account_id"], order_by="term")
    previous = terms.outcome.lag().over(ibis.window(group_by="account_id", order_by="term"))
    carried = (previous == 1).fill_null(False)
    return terms.select(
        "account_id",
        "term",
        "opener",
        "from_day",
        "last_day",
        ends_on=ibis.ifelse(carried, terms.end_if_carried, terms.end),
    )


def carry_forward(table: ir.Table, column: str, *, group_by: list[str], order_by: str) -> ir.Table:
    """Fill each null of a column with the last value before it in its group, if there is one."""
    so_far = ibis.window(group_by=group_by, order_by=order_by, preceding=None, following=0)
    runs = table.mutate(values_so_far=table[column].count().over(so_far))
    run = ibis.window(group_by=[*group_by, "values_so_far"])
    return runs.mutate(**{column: runs[column].max().over(run)}).drop("values_so_far")


def _steps(accounts: ir.Table, subscription_events: ir.Table) -> ir.Table:
    """One row an account and subscription event from the first payment on, with what then holds.

    Columns: `account_id`, `step` (order of the account's events), `term`, `event_type`, `day`,
    `holds_until` (the day before the next event), `term_last`, `effective_day` (of a cancellation),
    `renewal_day`, `failure_open`, `open_failures`, `failure_since`, `failure_event_id`,
    `closing_event_id`, `grace_until` (of the latest failure), `paused` (null if the term has not
    said so). Each holds at the end of the days from `day` to `holds_until`; where several events
    fall on a day, only the last one's row has any days.
    """
    events = _events(accounts, subscription_events)
    ordered = ibis.window(group_by="account_id", order_by=["at", "event_id"])
    so_far = ibis.window(
        group_by="account_id", order_by=["at", "event_id"], preceding=None, following=0
    )
    opens = events.event_type.isin(_OPENERS)
    closes = opens | (events.event_type == _RECOVERED)
    steps = events.mutate(
        step=ibis.row_number().over(ordered),
        term=opens.cast("int64").sum().over(so_far).cast("int64"),
        # A closer belongs to the run of failures that it closes.
        run=(closes.cast("int64").sum().over(so_far) - closes.cast("int64")).cast("int64"),
        closes=closes,
        holds_until=(events.day.lead().over(ordered) - 1).fill_null(FOREVER).cast("int64"),
        paused=ibis.cases(
            (events.event_type == _PAUSED, True),
            (events.event_type.isin((_RESUMED, _STARTED, _FIRST_PAYMENT)), False),
        ),
    )
    # A first payment that is no event carries on what earlier events said of the renewal date, or
    # else what the accounts table says; a start or renewal begins anew.
    steps = steps.mutate(known_in=ibis.ifelse(steps.event_type == _FIRST_PAYMENT, 0, steps.term))
    steps = carry_forward(
        steps, "renewal_day", group_by=["account_id", "known_in"], order_by="step"
    )
    steps = steps.mutate(renewal_day=ibis.coalesce(steps.renewal_day, steps.table_renewal_day))
    steps = steps.filter(steps.term > 0)
    for column in ("renewal_day", "paused"):
        steps = carry_forward(steps, column, group_by=["account_id", "term"], order_by="step")

    failed = steps.event_type == _FAILED
    run = ibis.window(group_by=["account_id", "run"])
    run_so_far = ibis.window(
        group_by=["account_id", "run"], order_by="step", preceding=None, following=0
    )
    steps = steps.mutate(
        open_failures=failed.cast("int64").sum().over(run_so_far),
        failure_number=failed.cast("int64").sum().over(run_so_far),
        failure_since=ibis.ifelse(failed, steps.day, None).min().over(run),
        closing_event_id=ibis.ifelse(steps.closes, steps.event_id, None).max().over(run),
        term_last=steps.holds_until.max().over(ibis.window(group_by=["account_id", "term"])),
        is_failure=failed,
    )
    latest_failure = ibis.window(group_by=["account_id", "run", "failure_number"])
    return steps.mutate(
        failure_open=~steps.closes & (steps.open_failures > 0),
        grace_until=ibis.ifelse(steps.is_failure, steps.grace_until, None)
        .max()
        .over(latest_failure),
        failure_event_id=ibis.ifelse(
            steps.is_failure & (steps.failure_number == 1), steps.event_id, None
        )
        .max()
        .over(run),
    )


def _events(accounts: ir.Table, subscription_events: ir.Table) -> ir.Table:
    """Subscription events of accounts, and first payments that only the accounts table knows."""
    known = subscription_events.filter(subscription_events.entity_type == "account")
    known = known.select(
        account_id=known.entity_id,
        event_id=known.event_id,
        at=known.event_timestamp,
        event_type=known.event_type,
        day=day_number(known.event_date),
        renewal_day=day_number(known.contract_renewal_date),
        effective_day=day_number(known.effective_date),
        grace_until=day_number(known.grace_until),
        table_renewal_day=ibis.null("int64"),
    )
    opened = (
        known.filter(known.event_type.isin((_STARTED, _RENEWED)))
        .group_by("account_id")
        .aggregate(opened_at=ibis._.at.min())
    )
    paid = accounts.filter(accounts.first_paid_at.notnull()).left_join(opened, "account_id")
    paid = paid.filter(paid.opened_at.isnull() | (paid.first_paid_at < paid.opened_at))
    first_payments = paid.select(
        account_id=paid.account_id,
        event_id=ibis.literal(""),  # sorts before the events of the same moment
        at=paid.first_paid_at,
        event_type=ibis.literal(_FIRST_PAYMENT),
        day=day_number(paid.first_paid_at.date()),
        renewal_day=ibis.null("int64"),
        effective_day=ibis.null("int64"),
        grace_until=ibis.null("int64"),
        table_renewal_day=day_number(paid.contract_renewal_date),
    )
    return known.union(first_payments.select(*known.columns))
