"""Derive an account's billing facts: subscriptions, the contract and days with a payment failure.

Billing is computed in three steps (framework, section 5, "Billing facts").

1. `_steps` orders each subscription's facts, together with the versions of the account's row that
   change its renewal date and a first payment without a fact.
2. `_effective_steps` drops the facts on a lapsed subscription. Whether a subscription has lapsed
   depends on all earlier facts, since a payment that is recovered after a lapse resumes the
   subscription with what was stated before. A fold over the subscription's facts (`folded`) finds the
   days on which it lapsed and the facts that resumed it. The period from the first payment, or from
   one of these facts, to the next lapse is a *life*. Window functions compute everything else.
3. `_contract` combines an account's subscriptions. Their days are split where any of them changes,
   and the values are summed or compared in each part.

Values that no fact sets come from the account's version of the day.

Days are represented as numbers (see `intervals`).
"""
# Over 400 lines: the three steps define one result, and each reads the columns of the one before.

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.expressions import (
    folded,
    left_joined,
    materialized,
    union_by_name,
)
from monstera_assets.lifecycle.intervals import ALWAYS, FOREVER, day_number, first_of
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import DunningType, FrozenReason
from monstera_assets.lifecycle.versions import one_row_per_entity, version_intervals

_STARTED, _RENEWED = "subscription_started", "subscription_renewed"
_FAILED, _RECOVERED = "payment_failed", "payment_recovered"
_PAUSED, _RESUMED = "subscription_paused", "subscription_resumed"
_CANCELLED = "subscription_cancelled"
_FIRST_PAYMENT, _NEW_VERSION = "first_payment", "new_version"
_STARTS = (_STARTED, _RENEWED)
_ON_ONE_INSTANT = (_CANCELLED, _PAUSED, _FAILED, _RECOVERED, _RESUMED, _RENEWED, _STARTED)
"""Order of facts with the same timestamp. Changes come last."""
_TRIAL = "trial"
_SUBSCRIPTION = ("account_id", "subscription_id")
_LIFE = (*_SUBSCRIPTION, "life")


class Phase(StrEnum):
    """The phase of an account's contract."""

    NEVER_PAID = "never_paid"
    PAID = "paid"
    LAPSED = "lapsed"


class ClosedBy(StrEnum):
    """The kind of event that closed a payment failure."""

    RECOVERY = "recovery"
    RENEWAL = "renewal"
    START = "start"
    LAPSE = "lapse"


def billing_intervals(
    accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """Return each account's contract for every day since its creation.

    Returns:
        An interval table by `account_id`: `phase` (never_paid, paid or lapsed), `ended_on` (the last
        paid day, if lapsed), `tier`, `seats` (null if neither the accounts table nor an event
        specifies the number of seats), `revenue` (per month, or 0 unless paid), `renewal_day` (null
        unless paid), `failure_open` and `paused` (every live subscription has an open failure or
        pause, and at least one has a failure, or a pause), `partly_halted` (a part of the live
        subscriptions has an open failure or pause), `pause_reason`, `cancellation_pending`,
        `first_paid_day`, `returned_on` (the latest day on which the account paid again after it had
        been churned on the day before) and `event_id` (the subscription event that started the
        interval, if any).
    """
    contract = _contract(accounts, subscription_events, policy)
    created = one_row_per_entity(accounts, ["account_id", "created_date"])
    created = created.select("account_id", created_day=day_number(created.created_date))
    known = contract.inner_join(created, "account_id")
    by_account = ibis.window(group_by="account_id", order_by="valid_from")
    days_lapsed = known.valid_from - 1 - known.ended_on.lag().over(by_account)
    returns = (
        (known.phase == Phase.PAID)
        & (days_lapsed >= policy.churn_days)
        & (known.valid_from > known.created_day)
    )
    known = known.mutate(returned_on=ibis.ifelse(returns, known.valid_from, None))
    known = carry_forward(known, "returned_on", group_by=["account_id"], order_by="valid_from")
    known = known.mutate(valid_from=ibis.greatest(known.valid_from, known.created_day))
    known = known.filter(known.valid_from <= known.valid_to)
    return materialized(
        known.select(
            *("account_id", "valid_from", "valid_to", "phase", "ended_on", "tier", "seats"),
            *("revenue", "renewal_day", "failure_open", "paused", "partly_halted"),
            *("pause_reason", "cancellation_pending", "first_paid_day", "returned_on", "event_id"),
        )
    )


def dunning_intervals(
    accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """Return the days on which an account has an open payment failure on any subscription.

    Returns:
        A sparse interval table by `account_id`: `dunning_type`, `dunning_since` (a day number),
        `begun_by_event_id` (the first open failure, or null if the account was also in dunning on the
        day before) and `ended_by_event_id` (the last event on the following day that closes a failure,
        or null if the subscription ends first).
    """
    contract = _contract(accounts, subscription_events, policy)
    open_days = contract.filter(contract.open_failures > 0)
    grace_until = open_days.grace_until.nullif(ALWAYS)
    plain = ibis.ifelse(open_days.open_failures > 1, DunningType.HARD, DunningType.SOFT)
    parts = []
    for dunning_type, first, last in (
        (ibis.literal(DunningType.GRACE_PERIOD), open_days.valid_from, grace_until),
        (plain, ibis.greatest(open_days.valid_from, grace_until + 1), FOREVER),
    ):
        part = open_days.mutate(dunning_type=dunning_type, part_from=first, part_to=last)
        part = part.filter(part.part_to.notnull()).select(
            "account_id",
            "dunning_type",
            "failure_event_id",
            dunning_since=part.failure_since,
            valid_from=part.part_from,
            valid_to=ibis.least(part.part_to, part.valid_to).cast("int64"),
        )
        parts.append(part.filter(part.valid_from <= part.valid_to))
    by_account = ibis.window(group_by="account_id", order_by="valid_from")
    dunning = _without_repeats(ibis.union(*parts))
    goes_on = dunning.valid_to.lag().over(by_account) == dunning.valid_from - 1
    dunning = dunning.mutate(
        begun_by_event_id=ibis.ifelse(goes_on.fill_null(False), None, dunning.failure_event_id)
    )
    closed = _effective_steps(accounts, subscription_events, policy)
    closed = closed.filter(closed.closes & (closed.open_failures > 0))
    closings = closed.group_by("account_id", valid_to=closed.day - 1).aggregate(
        ended_by_event_id=closed.event_id.argmax(closed.step).nullif("")
    )
    dunning = left_joined(dunning, closings, on=["account_id", "valid_to"])
    return materialized(dunning.drop("failure_event_id"))


def _without_repeats(dunning: ir.Table) -> ir.Table:
    """Merge consecutive intervals if the event between them changed nothing."""
    by_account = ibis.window(group_by="account_id", order_by="valid_from")
    repeats = (
        (dunning.valid_to.lag().over(by_account) == dunning.valid_from - 1)
        & (dunning.dunning_type == dunning.dunning_type.lag().over(by_account))
        & (dunning.dunning_since == dunning.dunning_since.lag().over(by_account))
    )
    marked = dunning.mutate(changes=(~repeats.fill_null(False)).cast("int64"))
    so_far = ibis.cumulative_window(group_by="account_id", order_by="valid_from")
    marked = marked.mutate(part=marked.changes.sum().over(so_far))
    return (
        marked.group_by("account_id", "part", "dunning_type", "dunning_since")
        .aggregate(
            failure_event_id=marked.failure_event_id.argmin(marked.valid_from),
            valid_from=marked.valid_from.min(),
            valid_to=marked.valid_to.max(),
        )
        .drop("part")
    )


def payment_failures(
    accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """Return each payment failure on a paid subscription, with the day and reason of its closure.

    Returns:
        One row per `payment_failed` event that opened a failure: `account_id`, `failure_event_id`,
        `failed_day`, `closed_day` and `closed_by` (a `ClosedBy` value). `closed_day` and `closed_by`
        are null while the failure is open. If no event closes a failure, the subscription's lapse
        closes the failure on the first lapsed day.
    """
    steps = _effective_steps(accounts, subscription_events, policy)
    closings = steps.filter(steps.closes).select(
        *(*_LIFE, "run"),
        closing_day=steps.day,
        closing_kind=ibis.cases(
            (steps.kind.isin((_RENEWED, _NEW_VERSION)), ClosedBy.RENEWAL),
            (steps.kind == _RECOVERED, ClosedBy.RECOVERY),
            else_=ClosedBy.START,
        ),
    )
    failures = left_joined(steps.filter(steps.is_failure), closings, on=[*_LIFE, "run"])
    return failures.select(
        "account_id",
        failure_event_id=failures.event_id,
        failed_day=failures.day,
        closed_day=ibis.coalesce(failures.closing_day, failures.ended_on + 1),
        closed_by=ibis.cases(
            (failures.closing_day.notnull(), failures.closing_kind),
            (failures.ended_on.notnull(), ClosedBy.LAPSE),
        ),
    )


def facts_on_lapsed(
    accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """Return the facts that change nothing because their subscription has lapsed.

    Returns:
        One row per fact: `account_id`, `subscription_id` (empty if no fact of the account names a
        subscription), `event_id`, `event_type`, `day` and `ended_on` (the subscription's last paid
        day), as day numbers.
    """
    steps = _lives(_steps(accounts, subscription_events, policy), policy)
    ignored = steps.filter(
        steps.day > steps.ended_on, steps.kind.notin((_FIRST_PAYMENT, _NEW_VERSION))
    )
    return ignored.select(*_SUBSCRIPTION, "event_id", "day", "ended_on", event_type="kind")


def carry_forward(table: ir.Table, column: str, *, group_by: list[str], order_by: str) -> ir.Table:
    """Fill each null in a column with the previous non-null value in its group, if any."""
    so_far = ibis.cumulative_window(group_by=group_by, order_by=order_by)
    runs = table.mutate(values_so_far=table[column].count().over(so_far))
    run = ibis.window(group_by=[*group_by, "values_so_far"])
    return runs.mutate(**{column: runs[column].max().over(run)}).drop("values_so_far")


# ---------------------------------------------------------------- the facts of each subscription


def _with_subscription(facts: ir.Table, *, order_by: list[ir.Value | str]) -> ir.Table:
    """Return facts with the subscription that each of them belongs to.

    Args:
        facts: facts with `account_id`, `kind` and `stated_subscription` (null if not stated).
        order_by: the columns that sort an account's facts.

    Returns:
        The facts with `subscription_id` and `first_subscription`, the first subscription that a fact
        of the account names. Both are empty if no fact names one.
    """
    so_far = ibis.cumulative_window(group_by="account_id", order_by=order_by)
    ordered = ibis.window(group_by="account_id", order_by=order_by)
    account = ibis.window(group_by="account_id")
    facts = facts.mutate(
        place=ibis.row_number().over(ordered),
        started=ibis.ifelse(facts.kind.isin(_STARTS), facts.stated_subscription, None),
    )
    facts = facts.mutate(starts_so_far=facts.started.count().over(so_far))
    since_start = ibis.window(group_by=["account_id", "starts_so_far"])
    named_at = ibis.ifelse(facts.stated_subscription.notnull(), facts.place, None)
    first_place = named_at.min().over(account)
    facts = facts.mutate(
        inherited=facts.started.max().over(since_start), is_first=facts.place == first_place
    )
    first = ibis.ifelse(facts.is_first, facts.stated_subscription, None).max().over(account)
    return facts.mutate(
        subscription_id=ibis.coalesce(facts.stated_subscription, facts.inherited, first, ""),
        first_subscription=first.fill_null(""),
    ).drop("place", "started", "starts_so_far", "inherited", "is_first")


def _account_facts(subscription_events: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Return the facts of accounts, in the reporting currency, with the subscription of each."""
    known = subscription_events.filter(subscription_events.entity_type == "account")
    ranks = ((known.event_type == kind, rank) for rank, kind in enumerate(_ON_ONE_INSTANT))
    known = known.select(
        account_id=known.entity_id,
        event_id=known.event_id,
        at=known.event_timestamp,
        rank=ibis.cases(*ranks, else_=len(_ON_ONE_INSTANT)).cast("int64"),
        kind=known.event_type,
        stated_subscription=known.subscription_id,
        day=day_number(known.event_date),
        renewal_day=day_number(known.contract_renewal_date),
        effective_day=day_number(known.effective_date),
        grace_until=day_number(known.grace_until),
        seats=known.total_seats,
        revenue=_in_reporting_currency(known, policy),
        tier=known.subscription_tier,
        pause_reason=known.pause_reason,
    )
    return _with_subscription(known, order_by=["day", "at", "rank", "event_id"])


def _in_reporting_currency(facts: ir.Table, policy: LifecyclePolicy) -> ir.DecimalValue:
    """Return `monthly_recurring_revenue`, converted from `currency` at the policy's rate.

    An amount without a currency, or in one without a rate, is not converted.
    """
    amount = facts.monthly_recurring_revenue
    if not policy.exchange_rates:
        return amount
    rates = (
        (facts.currency == currency, ibis.literal(rate, "decimal(18, 8)"))
        for currency, rate in policy.exchange_rates
    )
    rate = ibis.cases(*rates, else_=ibis.literal(1, "decimal(18, 8)"))
    # An amount that is too large counts as missing.
    return (amount * rate).try_cast(amount.type())


def _steps(accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Return one row per subscription and fact, version or first payment.

    The first version is the first step of the account's first subscription.

    Returns:
        The columns of `_account_facts` with `step` (the row's position among the account's rows) and
        `renews` (whether a version has a later renewal date than the version before).
    """
    facts = materialized(_account_facts(subscription_events, policy))
    firsts = facts.select("account_id", "first_subscription").distinct()
    paid = one_row_per_entity(accounts, ["account_id", "first_paid_at", "first_paid_date"])
    paid = paid.filter(paid.first_paid_at.notnull())
    first_payments = paid.select(
        "account_id",
        event_id=ibis.literal(""),
        at=paid.first_paid_at,
        rank=ibis.literal(-1, "int64"),  # Comes before events at the same time.
        kind=ibis.literal(_FIRST_PAYMENT),
        day=day_number(paid.first_paid_date),
    )
    versions = version_intervals(accounts, "account_id", ["contract_renewal_date"])
    renewal_day = day_number(versions.contract_renewal_date)
    before = renewal_day.lag().over(ibis.window(group_by="account_id", order_by="valid_from"))
    versions = versions.mutate(
        renewal_day=renewal_day,
        renews=(renewal_day > before).fill_null(False),
        changes=~renewal_day.identical_to(before),
    )
    # A version has no time, so it comes before the events of its first day.
    versions = versions.filter(versions.changes | (versions.valid_from == ALWAYS)).select(
        *("account_id", "renewal_day", "renews"),
        event_id=ibis.literal(""),
        rank=ibis.literal(-2, "int64"),
        kind=ibis.literal(_NEW_VERSION),
        day="valid_from",
    )
    added = left_joined(union_by_name(first_payments, versions), firsts, on=["account_id"])
    added = added.mutate(subscription_id=added.first_subscription.fill_null(""))
    steps = union_by_name(facts.drop("stated_subscription"), added).drop("first_subscription")
    steps = steps.semi_join(accounts, "account_id")
    order_by = ["day", ibis.asc(steps["at"], nulls_first=True), "rank", "event_id"]
    ordered = ibis.window(group_by="account_id", order_by=order_by)
    return materialized(
        steps.mutate(
            step=ibis.row_number().over(ordered).cast("int64"),
            renews=steps.renews.fill_null(False),
        )
    )


# ---------------------------------------------------------------- lapses and resumptions

_NO_DAY = ibis.null("int64")
_UNPAID = {
    "has_paid": ibis.literal(value=False),
    "ended_on": _NO_DAY,
    "day": ibis.literal(ALWAYS, "int64"),
    "renewal_is_stated": ibis.literal(value=False),
    "renewal_day": _NO_DAY,
    "failing_since": _NO_DAY,
    "paused": ibis.literal(value=False),
    "pause_ended_on": _NO_DAY,
    "cancelled_on": _NO_DAY,
    "resumptions": ibis.literal([], "array<struct<step: int64, ended_on: int64>>"),
}
"""A subscription before its first fact.

`ended_on` is the last paid day, while lapsed. `day` is that of the last fact. `cancelled_on` is the
effective date of a pending cancellation. `resumptions` has the steps that ended a lapse, each with the
last paid day before it.
"""


def _end(subscription: ir.StructValue, policy: LifecyclePolicy) -> ir.IntegerValue:
    """Return the day on which a paid subscription ends if no other fact follows, or null."""
    s = {name: subscription[name] for name in _UNPAID}
    due_on = ibis.greatest(s["renewal_day"], s["pause_ended_on"]) + policy.renewal_grace_days
    is_halted = s["failing_since"].notnull() | s["paused"]
    ends = (
        (s["cancelled_on"].notnull(), s["cancelled_on"]),
        (s["renewal_day"].notnull() & ~is_halted, due_on),
        (s["failing_since"].notnull(), s["failing_since"] + policy.dunning_days),
    )
    return ibis.least(
        *(ibis.ifelse(applies, ibis.greatest(s["day"], day), None) for applies, day in ends)
    )


def _after_step(
    subscription: ir.StructValue, step: ir.StructValue, policy: LifecyclePolicy
) -> dict[str, ir.Value]:
    """Return the subscription after a step (framework, section 5, "Failure" through "End")."""
    s = {name: subscription[name] for name in _UNPAID}
    kind, day, renewal_day = step["kind"], step["day"], step["renewal_day"]
    ended_on = ibis.ifelse(
        s["has_paid"], ibis.coalesce(s["ended_on"], _end(subscription, policy)), None
    )
    has_lapsed = (ended_on < day).fill_null(False)
    is_start = kind.isin(_STARTS)
    opens = (
        is_start
        | ((kind == _FIRST_PAYMENT) & ~s["has_paid"])
        | (step["renews"] & s["has_paid"] & ~s["renewal_is_stated"])
    )
    is_recovery = (kind == _RECOVERED) & s["has_paid"]
    was_cancelled = (s["cancelled_on"] < day).fill_null(False)
    resumes = has_lapsed & (opens | (is_recovery & ~was_cancelled))
    applies = ~has_lapsed | resumes
    states = applies & (kind != _NEW_VERSION) & (is_start | renewal_day.notnull())
    is_past = (s["renewal_day"] <= day).fill_null(False)
    clears = applies & is_recovery & renewal_day.isnull() & is_past
    from_row = (kind == _NEW_VERSION) & ~s["renewal_is_stated"]
    ends_pause = kind.isin((_STARTED, _RESUMED))
    is_paid = s["has_paid"] & ~has_lapsed
    return {
        "has_paid": s["has_paid"] | opens,
        "ended_on": ibis.ifelse(has_lapsed & ~resumes, ended_on, None),
        "day": day,
        "renewal_is_stated": s["renewal_is_stated"] | states | clears,
        "renewal_day": ibis.cases(
            (states | from_row, renewal_day), (clears, None), else_=s["renewal_day"]
        ),
        "failing_since": ibis.cases(
            (has_lapsed | opens | is_recovery, None),
            ((kind == _FAILED) & is_paid, ibis.coalesce(s["failing_since"], day)),
            else_=s["failing_since"],
        ),
        "paused": ibis.cases(
            (has_lapsed | ends_pause, False),
            ((kind == _PAUSED) & is_paid, True),
            else_=s["paused"],
        ),
        "pause_ended_on": ibis.ifelse(s["paused"] & ends_pause & is_paid, day, s["pause_ended_on"]),
        "cancelled_on": ibis.cases(
            (opens, None),
            ((kind == _CANCELLED) & is_paid, ibis.coalesce(step["effective_day"], day)),
            else_=s["cancelled_on"],
        ),
        "resumptions": ibis.ifelse(
            resumes,
            s["resumptions"].concat(
                ibis.array([ibis.struct({"step": step["step"], "ended_on": ended_on})])
            ),
            s["resumptions"],
        ),
    }


def _lives(steps: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Add the life of each step, and the last paid day of that life, `ended_on`, if it has ended.

    Steps after the last paid day are on a lapsed subscription.
    """
    read = ("kind", "day", "step", "renewal_day", "effective_day", "renews")
    items = ibis.struct({name: steps[name] for name in read})
    subscriptions = steps.group_by(*_SUBSCRIPTION).aggregate(facts=items.collect(order_by="step"))
    subscriptions = subscriptions.mutate(
        last=folded(
            subscriptions.facts,
            ibis.struct(_UNPAID),
            lambda subscription, step: ibis.struct(_after_step(subscription, step, policy)),
        )
    ).drop("facts")
    last = subscriptions["last"]
    ended_on = ibis.coalesce(last["ended_on"], _end(last, policy))
    subscriptions = materialized(
        subscriptions.select(
            *_SUBSCRIPTION,
            resumptions=last["resumptions"],
            ended_on=ibis.ifelse(last["has_paid"], ended_on, None),
        )
    )
    resumed = subscriptions.select(
        *_SUBSCRIPTION, resumption=subscriptions.resumptions.unnest()
    ).unpack("resumption")
    by_step = ibis.window(group_by=_SUBSCRIPTION, order_by="step")
    resumed = materialized(resumed.mutate(life=ibis.row_number().over(by_step).cast("int64")))
    ends = resumed.select(*_LIFE, "ended_on").union(
        subscriptions.select(
            *_SUBSCRIPTION,
            life=subscriptions.resumptions.length().cast("int64"),
            ended_on="ended_on",
        )
    )
    resumed = resumed.select(*_SUBSCRIPTION, "step", resumes=ibis.literal(1, "int64"))
    steps = left_joined(steps, resumed, on=[*_SUBSCRIPTION, "step"])
    so_far = ibis.cumulative_window(group_by=_SUBSCRIPTION, order_by="step")
    steps = steps.mutate(life=steps.resumes.sum().over(so_far).fill_null(0).cast("int64"))
    return left_joined(steps.drop("resumes"), ends, on=_LIFE)


@lru_cache(maxsize=8)  # several tables and queries read the same expression
def _effective_steps(
    accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """Return the steps that change something, with the values that apply after each of them.

    Returns:
        The steps with `life`, `ended_on` (the last paid day of the life, if it has ended), `has_paid`,
        `holds_until` (the day before the next step), `renewal_day`, `closes` (whether the step closes
        failures), `run` (the number of the period between two such steps, to which the latter
        belongs), `is_failure`, `open_failures` (before the step, if it closes them), `failure_since`,
        `failure_event_id` and `failure_step` (of the first open failure), `latest_failure_step`,
        `grace_until` (of the latest failure, or `ALWAYS`), `paused`, `pause_step`, `cancelled_on` and
        the latest values. A step applies at the end of each day from `day` through `holds_until`. If a
        subscription has several steps on one day, only the last one covers any days.
    """
    steps = _lives(_steps(accounts, subscription_events, policy), policy)
    so_far = ibis.cumulative_window(group_by=_SUBSCRIPTION, order_by="step")
    is_version = steps.kind == _NEW_VERSION
    steps = steps.mutate(
        versions_so_far=is_version.cast("int64").sum().over(so_far),
        version_renewal_day=ibis.ifelse(is_version, steps.renewal_day, None),
    )
    since_version = ibis.window(group_by=[*_SUBSCRIPTION, "versions_so_far"])
    steps = steps.mutate(row_renewal_day=steps.version_renewal_day.max().over(since_version))
    steps = steps.filter((steps.day <= steps.ended_on).fill_null(True))

    is_start = steps.kind.isin(_STARTS)
    pays = is_start | (steps.kind == _FIRST_PAYMENT)
    states = is_start | (steps.renewal_day.notnull() & (steps.kind != _NEW_VERSION))
    steps = steps.mutate(
        payments=pays.cast("int64").sum().over(so_far),
        statements=states.cast("int64").sum().over(so_far),
        stated_renewal_day=ibis.ifelse(states, steps.renewal_day, None),
    )
    since_statement = ibis.window(group_by=[*_SUBSCRIPTION, "statements"])
    steps = steps.mutate(
        has_paid=steps.payments > 0,
        stated_renewal_day=ibis.ifelse(
            steps.statements == 0,
            steps.row_renewal_day,
            steps.stated_renewal_day.max().over(since_statement),
        ),
    )
    is_recovery = (steps.kind == _RECOVERED) & steps.has_paid
    clears = is_recovery & steps.renewal_day.isnull() & (steps.stated_renewal_day <= steps.day)
    statement_so_far = ibis.cumulative_window(
        group_by=[*_SUBSCRIPTION, "statements"], order_by="step"
    )
    steps = steps.mutate(
        is_recovery=is_recovery,
        is_cleared=clears.fill_null(False).cast("int64").sum().over(statement_so_far) > 0,
    )
    renews_by_row = steps.renews & steps.has_paid & (steps.statements == 0) & ~steps.is_cleared
    opens = (
        steps.kind.isin(_STARTS)
        | ((steps.kind == _FIRST_PAYMENT) & (steps.payments == 1))
        | renews_by_row
    )
    closes = opens | steps.is_recovery
    closings = closes.cast("int64").sum().over(so_far)
    steps = materialized(
        steps.mutate(
            term=opens.cast("int64").sum().over(so_far),
            closes=closes,
            # A step that closes failures belongs to the same run as the failures.
            run=(closings - closes.cast("int64")).cast("int64"),
            is_failure=(steps.kind == _FAILED) & steps.has_paid,
            renewal_day=ibis.ifelse(steps.is_cleared, None, steps.stated_renewal_day),
            cancelled_on=ibis.ifelse(
                (steps.kind == _CANCELLED) & steps.has_paid,
                ibis.coalesce(steps.effective_day, steps.day),
                None,
            ),
            paused=ibis.cases(
                (steps.kind.isin((_STARTED, _RESUMED)), False),
                ((steps.kind == _PAUSED) & steps.has_paid, True),
            ),
            pause_step=ibis.ifelse(steps.kind == _PAUSED, steps.step, None),
            pause_reason=ibis.ifelse(
                steps.kind == _PAUSED,
                steps.pause_reason.fill_null(FrozenReason.VOLUNTARY_PAUSE),
                None,
            ),
        )
    )
    steps = carry_forward(steps, "paused", group_by=[*_LIFE], order_by="step")
    steps = carry_forward(steps, "cancelled_on", group_by=[*_SUBSCRIPTION, "term"], order_by="step")
    for column in ("seats", "revenue", "tier", "pause_reason", "pause_step"):
        steps = carry_forward(steps, column, group_by=[*_SUBSCRIPTION], order_by="step")

    run = [*_LIFE, "run"]
    ordered = ibis.window(group_by=_SUBSCRIPTION, order_by="step")
    run_so_far = ibis.cumulative_window(group_by=run, order_by="step")
    failed_on = ibis.ifelse(steps.is_failure, steps.day, None)
    failed_at = ibis.ifelse(steps.is_failure, steps.step, None)
    steps = steps.mutate(
        holds_until=(steps.day.lead().over(ordered) - 1).fill_null(FOREVER).cast("int64"),
        paused=steps.paused.fill_null(False),
        open_failures=steps.is_failure.cast("int64").sum().over(run_so_far).cast("int64"),
        failure_since=failed_on.min().over(run_so_far),
        failure_step=failed_at.min().over(run_so_far),
        latest_failure_step=failed_at.max().over(run_so_far),
    )
    of_failure = ibis.window(group_by=[*run, "latest_failure_step"])
    grace_until = ibis.ifelse(steps.is_failure, steps.grace_until.fill_null(ALWAYS), None)
    first_id = ibis.ifelse(steps.step == steps.failure_step, steps.event_id, None)
    return materialized(
        steps.mutate(
            grace_until=grace_until.max().over(of_failure),
            failure_event_id=first_id.max().over(ibis.window(group_by=run)),
        )
    )


# ---------------------------------------------------------------- the contract of each account


@lru_cache(maxsize=8)  # several tables and queries read the same expression
def _contract(
    accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """Return each account's contract on every day, including days before its creation.

    Returns:
        An interval table by `account_id`, from `ALWAYS` to `FOREVER`, with the columns of
        `billing_intervals` other than `returned_on`, and with `open_failures`, `failure_since`,
        `grace_until` and `failure_event_id` over all live subscriptions.
    """
    steps = _effective_steps(accounts, subscription_events, policy)
    pieces = _pieces(steps)
    in_table = {
        "row_seats": "total_seats",
        "row_revenue": "monthly_recurring_revenue",
        "row_tier": "subscription_tier",
    }
    versions = version_intervals(accounts, "account_id", list(in_table.values()))
    parts = union_by_name(pieces, versions.rename(in_table))
    parts = _split_at_every_change(materialized(parts), pieces)
    is_live = parts.is_live.fill_null(False)
    ranks = ((parts.tier == name, rank) for rank, name in enumerate(policy.subscription_tiers))
    # Without a rank, the first tier by name counts.
    no_rank = ibis.literal(len(policy.subscription_tiers) + 1)
    below_top = len(policy.subscription_tiers) - ibis.cases(*ranks, else_=ibis.null("int64"))
    is_failing = is_live & parts.is_failing
    is_halted = is_live & (parts.is_failing | parts.paused)
    is_next = is_live & (parts.renewal_day >= parts.part_from)
    contract = parts.group_by("account_id", valid_from="part_from", valid_to="part_to").aggregate(
        live=is_live.cast("int64").sum().cast("int64"),
        halted=is_halted.fill_null(False).cast("int64").sum().cast("int64"),
        is_failing=is_failing.fill_null(False).max(),
        is_paused=(is_live & parts.paused).fill_null(False).max(),
        cancellation_pending=(is_live & parts.cancelled_on.notnull()).max(),
        stated_tier=first_of(
            parts.tier,
            order_by=[below_top.fill_null(no_rank), parts.tier],
            where=is_live & parts.tier.notnull(),
        ),
        stated_revenue=parts.revenue.sum(where=is_live),
        stated_seats=parts.seats.sum(where=is_live),
        seats_before=parts.seats.sum(where=~parts.is_live),
        next_renewal_day=parts.renewal_day.min(where=is_next),
        last_renewal_day=parts.renewal_day.max(where=is_live),
        pause_reason=parts.pause_reason.argmax(parts.pause_step, where=is_live & parts.paused),
        open_failures=parts.open_failures.sum(where=is_failing).fill_null(0).cast("int64"),
        failure_since=parts.failure_since.min(where=is_failing),
        grace_until=parts.grace_until.argmax(parts.latest_failure_step, where=is_failing),
        failure_event_id=parts.failure_event_id.argmin(parts.failure_step, where=is_failing),
        event_id=parts.event_id.argmax(
            parts.step, where=is_live & (parts.valid_from == parts.part_from)
        ).nullif(""),
        row_seats=parts.row_seats.max(),
        row_revenue=parts.row_revenue.max(),
        row_tier=parts.row_tier.max(),
    )
    first = pieces.group_by("account_id").aggregate(first_paid_day=pieces.first_paid_day.min())
    contract = left_joined(contract, first, on=["account_id"])
    in_order = ibis.cumulative_window(group_by="account_id", order_by="valid_from")
    is_paid = contract.live > 0
    has_paid = (contract.valid_from >= contract.first_paid_day).fill_null(False)
    all_halted = is_paid & (contract.halted == contract.live)
    no_revenue = ibis.literal(0).cast(contract.row_revenue.type())
    contract = contract.mutate(
        phase=ibis.cases((is_paid, Phase.PAID), (has_paid, Phase.LAPSED), else_=Phase.NEVER_PAID),
        paid_parts=is_paid.cast("int64").sum().over(in_order),
        first_paid_day=ibis.ifelse(has_paid, contract.first_paid_day, None),
        revenue=ibis.ifelse(
            is_paid, ibis.coalesce(contract.stated_revenue, contract.row_revenue), no_revenue
        ).cast(no_revenue.type()),
        renewal_day=ibis.coalesce(contract.next_renewal_day, contract.last_renewal_day),
        failure_open=all_halted & contract.is_failing,
        paused=all_halted & contract.is_paused,
        partly_halted=(contract.halted > 0) & ~all_halted,
        paid_to=ibis.ifelse(is_paid, contract.valid_to, None),
        paid_tier=ibis.ifelse(
            is_paid, ibis.coalesce(contract.stated_tier, contract.row_tier), None
        ),
        paid_seats=ibis.ifelse(
            is_paid, ibis.coalesce(contract.stated_seats, contract.row_seats), None
        ),
    )
    # A lapsed part follows the part with the last paid day.
    since_paid = ibis.window(group_by=["account_id", "paid_parts"])
    is_lapsed, never_paid = (
        contract.phase == str(phase) for phase in (Phase.LAPSED, Phase.NEVER_PAID)
    )
    return materialized(
        contract.mutate(
            ended_on=ibis.ifelse(is_lapsed, contract.paid_to.max().over(since_paid), None),
            tier=ibis.ifelse(never_paid, _TRIAL, contract.paid_tier.max().over(since_paid)),
            seats=ibis.ifelse(
                never_paid,
                ibis.coalesce(contract.seats_before, contract.row_seats),
                contract.paid_seats.max().over(since_paid),
            ).cast("int64"),
        )
    )


def _pieces(steps: ir.Table) -> ir.Table:
    """Return the days of each subscription, before its first payment and while it is live.

    A subscription that another one replaces does not count on its last day.

    Returns:
        An interval table by `account_id` and `subscription_id`, with `is_live`, `first_paid_day` (of
        the subscription) and the values that apply, those of failures and pauses only while open.
    """
    steps = steps.mutate(
        is_failing=~steps.closes & (steps.open_failures > 0),
        valid_to=ibis.ifelse(
            steps.has_paid, ibis.least(steps.holds_until, steps.ended_on), steps.holds_until
        ),
    )
    paid = steps.filter(steps.has_paid)
    lives = paid.group_by(*_LIFE).aggregate(begins_on=paid.day.min(), ended_on=paid.ended_on.max())
    by_life = ibis.window(group_by=_SUBSCRIPTION, order_by="life")
    goes_on = lives.begins_on - 1 == lives.ended_on.lag().over(by_life)
    begins = lives.filter(
        ~goes_on.fill_null(False), lives.ended_on.isnull() | (lives.ended_on > lives.begins_on)
    )
    # One that begins on the day and lives on is never the one that ends on it.
    begins = begins.select("account_id", last_day=begins.begins_on).distinct()
    replaced = lives.select(*_LIFE, last_day=lives.ended_on)
    replaced = replaced.semi_join(begins, ["account_id", "last_day"])
    pieces = left_joined(steps, replaced, on=_LIFE)
    pieces = pieces.mutate(valid_to=ibis.least(pieces.valid_to, pieces.last_day - 1))
    first = paid.group_by(*_SUBSCRIPTION).aggregate(first_paid_day=paid.day.min())
    pieces = left_joined(pieces, first, on=_SUBSCRIPTION)
    pieces = pieces.filter(pieces.day <= pieces.valid_to).select(
        *(*_SUBSCRIPTION, "step", "event_id", "valid_to", "first_paid_day", "renewal_day"),
        *("seats", "revenue", "tier", "is_failing", "open_failures", "failure_since"),
        *("failure_step", "latest_failure_step", "failure_event_id", "grace_until"),
        *("paused", "pause_step", "pause_reason", "cancelled_on"),
        valid_from=pieces.day,
        is_live=pieces.has_paid,
    )
    return materialized(pieces)


def _split_at_every_change(parts: ir.Table, pieces: ir.Table) -> ir.Table:
    """Split intervals at each day on which any of the account's intervals starts or ends.

    Intervals of accounts with several subscriptions are also split on the day after a renewal date.

    Returns:
        The intervals, repeated for each of the parts that they cover, from `part_from` to `part_to`.
        All intervals of an account have the same parts.
    """
    by_account = ibis.window(group_by="account_id")
    several = pieces.subscription_id.min().over(by_account) != pieces.subscription_id.max().over(
        by_account
    )
    passed = pieces.mutate(several=several, day=pieces.renewal_day + 1)
    passed = passed.filter(
        passed.several, passed.day > passed.valid_from, passed.day <= passed.valid_to
    )
    days = ibis.union(
        parts.select("account_id", day="valid_from"),
        parts.filter(parts.valid_to < FOREVER).select("account_id", day=parts.valid_to + 1),
        passed.select("account_id", "day"),
        distinct=True,
    )
    in_order = ibis.window(group_by="account_id", order_by="day")
    days = materialized(
        days.select(
            "account_id",
            number=ibis.row_number().over(in_order).cast("int64"),
            part_from="day",
            part_to=(days.day.lead().over(in_order) - 1).fill_null(FOREVER).cast("int64"),
        )
    )
    firsts = days.select("account_id", valid_from="part_from", first_number="number")
    lasts = days.select("account_id", valid_to="part_to", last_number="number")
    covers = parts.inner_join(firsts, ["account_id", "valid_from"])
    covers = covers.inner_join(lasts, ["account_id", "valid_to"])
    numbers = ibis.range(covers.first_number, covers.last_number + 1)
    covers = covers.mutate(number=numbers.unnest().cast("int64"))
    covers = covers.drop("first_number", "last_number")
    return covers.inner_join(days, ["account_id", "number"])
