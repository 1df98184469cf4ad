"""Derive an account's billing facts: subscription terms and days with a payment failure.

An account's subscription events form *terms*. A term starts with a subscription start, a renewal, or
a first payment recorded only in the accounts table. The term lasts until the day before the next
term. Within a term, a subscription can end once, for one of three reasons. After the subscription
ends, nothing changes until the next term (framework, section 5, "Billing facts").

Two of the reasons depend only on the term's events: a cancellation that takes effect, and a payment
failure that stays open too long. The third reason is a renewal date that passes without an open
failure or pause. The third reason also depends on whether a pause is carried over from the previous
term, so each term is evaluated for both cases. A term keeps the pause, drops the pause, or ends the
pause along with the subscription. The latest term with the same outcome in both cases determines
which case applies. A single window function over the terms finds this term.

Values that no event sets come from the account's version of the day. A new version is therefore a step
between the events.

Days are represented as numbers (see `intervals`).
"""

from __future__ import annotations

from enum import StrEnum

import ibis
import ibis.expr.types as ir

from monstera_assets.lifecycle.expressions import left_joined, materialized, union_by_name
from monstera_assets.lifecycle.intervals import ALWAYS, FOREVER, day_number
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import DunningType, FrozenReason
from monstera_assets.lifecycle.versions import at_day, one_row_per_entity, version_intervals

_STARTED, _RENEWED = "subscription_started", "subscription_renewed"
_FAILED, _RECOVERED = "payment_failed", "payment_recovered"
_PAUSED, _RESUMED = "subscription_paused", "subscription_resumed"
_CANCELLED = "subscription_cancelled"
_FIRST_PAYMENT, _NEW_VERSION = "first_payment", "new_version"
_OPENERS = (_STARTED, _RENEWED, _FIRST_PAYMENT)
_TRIAL = "trial"


class Phase(StrEnum):
    """The phase of an account's contract."""

    NEVER_PAID = "never_paid"
    PAID = "paid"
    LAPSED = "lapsed"


def dunning_intervals(
    accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """Return the days on which an account has an open payment failure.

    Returns:
        A sparse interval table by `account_id`: `dunning_type`, `dunning_since` (a day number),
        `begun_by_event_id` (the first open failure, or null if the account was also in dunning on the
        day before) and `ended_by_event_id` (the last event on the following day that closes a failure,
        or null if the subscription ends first).
    """
    steps = _steps(accounts, subscription_events)
    ends = _terms(steps, policy).select("account_id", "term", "ends_on")
    steps = steps.inner_join(ends, ["account_id", "term"])
    open_days = steps.filter(
        steps.failure_open & (steps.day <= steps.ends_on.fill_null(FOREVER))
    ).mutate(until=ibis.least(ibis._.holds_until, ibis._.ends_on))
    plain = ibis.ifelse(open_days.open_failures > 1, DunningType.HARD, DunningType.SOFT)
    parts = []
    for dunning_type, first, last in (
        (ibis.literal(DunningType.GRACE_PERIOD), open_days.day, open_days.grace_until),
        (plain, ibis.greatest(open_days.day, open_days.grace_until + 1), FOREVER),
    ):
        part = open_days.mutate(dunning_type=dunning_type, part_from=first, part_to=last)
        part = part.filter(part.part_to.notnull()).select(
            "account_id",
            "dunning_type",
            "failure_event_id",
            dunning_since=part.failure_since,
            valid_from=part.part_from,
            valid_to=ibis.least(part.part_to, part.until).cast("int64"),
        )
        parts.append(part.filter(part.valid_from <= part.valid_to))
    by_account = ibis.window(group_by="account_id", order_by="valid_from")
    dunning = _without_repeats(ibis.union(*parts))
    goes_on = dunning.valid_to.lag().over(by_account) == dunning.valid_from - 1
    dunning = dunning.mutate(
        begun_by_event_id=ibis.ifelse(goes_on.fill_null(False), None, dunning.failure_event_id)
    )
    closed = open_days.filter(open_days.closing_day <= open_days.ends_on.fill_null(FOREVER))
    closings = closed.group_by("account_id", valid_to=closed.closing_day - 1).aggregate(
        ended_by_event_id=closed.closing_event_id.argmax(closed.closing_step)
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
            valid_from=marked.valid_from.min(),
            valid_to=marked.valid_to.max(),
            failure_event_id=marked.failure_event_id.max(),
        )
        .drop("part")
    )


class ClosedBy(StrEnum):
    """The kind of event that closed a payment failure."""

    RECOVERY = "recovery"
    RENEWAL = "renewal"
    START = "start"
    LAPSE = "lapse"


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
    steps = _steps(accounts, subscription_events)
    ends = _terms(steps, policy).select("account_id", "term", "ends_on")
    closers = steps.filter(steps.closes).select(
        "account_id",
        "run",
        closing_kind=ibis.cases(
            (steps.event_type == _RENEWED, ClosedBy.RENEWAL),
            (steps.event_type == _RECOVERED, ClosedBy.RECOVERY),
            else_=ClosedBy.START,
        ),
    )
    failures = steps.filter(steps.is_failure).inner_join(ends, ["account_id", "term"])
    last_day = failures.ends_on.fill_null(FOREVER)
    failures = failures.filter(failures.day <= last_day)
    failures = failures.left_join(closers, ["account_id", "run"])
    in_time = (failures.closing_day <= last_day).fill_null(False)
    return failures.select(
        "account_id",
        failure_event_id=failures.event_id,
        failed_day=failures.day,
        closed_day=ibis.ifelse(in_time, failures.closing_day, failures.ends_on + 1),
        closed_by=ibis.cases(
            (in_time, failures.closing_kind), (failures.ends_on.notnull(), ClosedBy.LAPSE)
        ),
    )


def _terms(steps: ir.Table, policy: LifecyclePolicy) -> ir.Table:
    """Return each account's subscription terms and the day on which each subscription ends.

    Returns:
        One row per account and term: `account_id`, `term` (from 1), `from_day`, `ends_on` (the last
        paid day if the subscription ends within the term, otherwise null), `begins_paused` (whether a
        pause is carried over from the previous term) and `returned_on` (the latest day, through the
        term's first day, on which the account paid again after it had lapsed for `churn_days`, or null
        if there is no such day).
    """
    steps = steps.filter(steps.term > 0)
    in_force = steps.holds_until
    cancelled_on = ibis.greatest(steps.effective_day, steps.day)
    cancels = (steps.event_type == _CANCELLED) & (cancelled_on <= steps.term_last)
    overdue_on = ibis.greatest(steps.day, steps.failure_since + policy.dunning_days)
    is_overdue = steps.failure_open & (overdue_on <= in_force)
    renewal_due_on = ibis.greatest(steps.day, steps.renewal_day)
    is_due = ~steps.failure_open & steps.renewal_day.notnull() & (renewal_due_on <= in_force)
    steps = steps.mutate(
        hard_end=ibis.least(
            ibis.ifelse(cancels, cancelled_on, None), ibis.ifelse(is_overdue, overdue_on, None)
        ),
        due_unless_paused=ibis.ifelse(is_due, renewal_due_on, None),
    )
    terms = steps.group_by("account_id", "term").aggregate(
        from_day=steps.day.min(),
        hard_end=steps.hard_end.min(),
        due=steps.due_unless_paused.min(where=~steps.paused.fill_null(False)),
        due_if_carried=steps.due_unless_paused.min(where=~steps.paused.fill_null(True)),
        paused_at_end=steps.paused.argmax(steps.step),
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
    terms = terms.select(
        "account_id",
        "term",
        "from_day",
        ends_on=ibis.ifelse(carried, terms.end_if_carried, terms.end),
        begins_paused=carried,
    )
    by_account = ibis.window(group_by="account_id", order_by="term")
    days_lapsed = terms.from_day - 1 - terms.ends_on.lag().over(by_account)
    terms = terms.mutate(
        returned_on=ibis.ifelse(days_lapsed >= policy.churn_days, terms.from_day, None)
    )
    terms = carry_forward(terms, "returned_on", group_by=["account_id"], order_by="term")
    return materialized(terms)


def billing_intervals(
    accounts: ir.Table, subscription_events: ir.Table, policy: LifecyclePolicy
) -> ir.Table:
    """Return each account's contract for every day since its creation.

    Returns:
        An interval table by `account_id`: `phase` (never_paid, paid or lapsed), `ended_on` (the last
        paid day, if lapsed), `tier`, `seats` (null if neither the accounts table nor an event
        specifies the number of seats), `revenue` (per month, or 0 unless paid), `renewal_day`,
        `failure_open`, `paused`, `pause_reason`, `cancellation_pending` (false or null unless
        paid), `first_paid_day`, `returned_on` and `event_id` (the subscription event that started
        the interval, if any).
    """
    steps = _steps(accounts, subscription_events)
    terms = _terms(steps, policy)
    every_step = _contract_steps(accounts, steps, terms)
    in_trial, steps = every_step.filter(ibis._.term == 0), every_step.filter(ibis._.term > 0)
    contract = ("account_id", "tier", "seats", "renewal_day", "first_paid_day", "returned_on")
    nothing = dict.fromkeys(
        ("failure_open", "paused", "cancellation_pending"), ibis.literal(value=False)
    )
    paid = steps.select(
        *contract,
        "revenue",
        "failure_open",
        "paused",
        phase=ibis.literal(Phase.PAID),
        valid_from=steps.day,
        valid_to=ibis.least(steps.holds_until, steps.ends_on),
        pause_reason=ibis.ifelse(steps.paused, steps.pause_reason, None),
        cancellation_pending=steps.cancelled,
        event_id=steps.event_id.nullif(""),
    )
    lapses = steps.filter(
        steps.day <= steps.ends_on,
        steps.ends_on <= steps.holds_until,
        steps.ends_on < steps.term_last,
    )
    no_revenue = ibis.literal(0).cast(steps.revenue.type())
    lapsed = lapses.select(
        *contract,
        phase=ibis.literal(Phase.LAPSED),
        valid_from=lapses.ends_on + 1,
        valid_to=lapses.term_last,
        ended_on=lapses.ends_on,
        revenue=no_revenue,
        **nothing,
    )
    never_paid = {
        "phase": ibis.literal(Phase.NEVER_PAID),
        "tier": ibis.literal(_TRIAL),
        "revenue": no_revenue,
        **nothing,
    }
    in_trial = in_trial.select(
        "account_id",
        "seats",
        valid_from=in_trial.day,
        valid_to=in_trial.holds_until,
        **never_paid,
    )
    first = every_step.group_by("account_id").aggregate(first_day=every_step.day.min())
    versions = version_intervals(accounts, "account_id", ["total_seats"])
    before = left_joined(versions.filter(versions.valid_from == ALWAYS), first, on=["account_id"])
    without_steps = before.select(
        "account_id",
        "valid_from",
        seats=before.total_seats,
        valid_to=(before.first_day - 1).fill_null(FOREVER),
        **never_paid,
    )
    known = union_by_name(paid, lapsed, in_trial, without_steps)
    created = one_row_per_entity(accounts, ["account_id", "created_date"])
    created = created.select("account_id", created_day=day_number(created.created_date))
    known = known.inner_join(created, "account_id")
    known = known.mutate(valid_from=ibis.greatest(known.valid_from, known.created_day))
    return materialized(known.filter(known.valid_from <= known.valid_to).drop("created_day"))


def _contract_steps(accounts: ir.Table, steps: ir.Table, terms: ir.Table) -> ir.Table:
    """Return the effective steps with the values that apply after each step.

    Events on a lapsed subscription are dropped. Each value comes from the latest event that provides
    the value, even if the event precedes the first payment. Until an event provides a value, the
    value from the account's version on that day applies.
    """
    term = terms.select("account_id", "term", "ends_on", "begins_paused", "returned_on")
    steps = left_joined(steps, term, on=["account_id", "term"])
    in_effect = steps.filter(steps.day <= steps.ends_on.fill_null(FOREVER))
    in_effect = in_effect.mutate(
        pause_reason=ibis.ifelse(
            in_effect.event_type == _PAUSED,
            in_effect.pause_reason.fill_null(FrozenReason.VOLUNTARY_PAUSE),
            None,
        )
    )
    for column in ("seats", "revenue", "tier", "pause_reason"):
        in_effect = carry_forward(in_effect, column, group_by=["account_id"], order_by="step")
    in_term = ibis.cumulative_window(group_by=["account_id", "term"], order_by="step")
    in_effect = in_effect.mutate(
        cancelled=(in_effect.event_type == _CANCELLED).cast("int64").max().over(in_term) == 1,
        paused=in_effect.paused.fill_null(in_effect.begins_paused),
    )
    paying = in_effect.filter(in_effect.term > 0)
    first = paying.group_by("account_id").aggregate(first_paid_day=paying.day.min())
    in_effect = left_joined(in_effect, first, on=["account_id"])
    in_table = {
        "seats": "total_seats",
        "revenue": "monthly_recurring_revenue",
        "tier": "subscription_tier",
    }
    versions = version_intervals(accounts, "account_id", list(in_table.values()))
    in_effect = at_day(in_effect, in_effect.day, versions, "account_id")
    return in_effect.mutate(
        **{
            name: ibis.coalesce(in_effect[name], in_effect[there])
            for name, there in in_table.items()
        }
    )


def carry_forward(table: ir.Table, column: str, *, group_by: list[str], order_by: str) -> ir.Table:
    """Fill each null in a column with the previous non-null value in its group, if any."""
    so_far = ibis.cumulative_window(group_by=group_by, order_by=order_by)
    runs = table.mutate(values_so_far=table[column].count().over(so_far))
    run = ibis.window(group_by=[*group_by, "values_so_far"])
    return runs.mutate(**{column: runs[column].max().over(run)}).drop("values_so_far")


def _steps(accounts: ir.Table, subscription_events: ir.Table) -> ir.Table:
    """Return one row per account and event or new version, with the values that apply after it.

    Columns: `account_id`, `event_id`, `step` (the row's position among the account's rows),
    `term` (0 before the first payment), `event_type`, `day`, `holds_until` (the day before the next
    event), `term_last`, `effective_day` (of a cancellation), `renewal_day`, `failure_open`,
    `open_failures`, `failure_since`, `failure_event_id`, `closing_event_id`, `closing_step` and
    `closing_day` (of the event that closes the failures), `grace_until` (of the latest failure),
    `paused` (null until an event in the term determines the value), and the event's own values:
    `seats`, `revenue`, `tier` and `pause_reason`. A row applies at the end of each day from `day`
    through `holds_until`. If an account has several rows on one day, only the last row covers any
    days.
    """
    events = _events(accounts, subscription_events)
    # A version has no time, so it comes before the events of its first day.
    order_by = ["day", ibis.asc(events["at"], nulls_first=True), "event_id"]
    ordered = ibis.window(group_by="account_id", order_by=order_by)
    so_far = ibis.cumulative_window(group_by="account_id", order_by=order_by)
    opens = events.event_type.isin(_OPENERS)
    closes = opens | (events.event_type == _RECOVERED)
    steps = events.mutate(
        step=ibis.row_number().over(ordered),
        term=opens.cast("int64").sum().over(so_far).cast("int64"),
        # An event that closes failures belongs to the same run as the failures.
        run=(closes.cast("int64").sum().over(so_far) - closes.cast("int64")).cast("int64"),
        closes=closes,
        holds_until=(events.day.lead().over(ordered) - 1).fill_null(FOREVER).cast("int64"),
        paused=ibis.cases(
            (events.event_type == _PAUSED, True),
            (events.event_type.isin((_RESUMED, _STARTED, _FIRST_PAYMENT)), False),
        ),
    )
    # A first payment without an event keeps the renewal date from earlier events, or the date in the
    # accounts table if earlier events do not have a renewal date. A start or renewal does not keep an
    # earlier renewal date.
    steps = steps.mutate(known_in=ibis.ifelse(steps.event_type == _FIRST_PAYMENT, 0, steps.term))
    steps = carry_forward(
        steps, "renewal_day", group_by=["account_id", "known_in"], order_by="step"
    )
    for column in ("renewal_day", "paused"):
        steps = carry_forward(steps, column, group_by=["account_id", "term"], order_by="step")
    versions = version_intervals(accounts, "account_id", ["contract_renewal_date"])
    steps = at_day(steps, steps.day, versions, "account_id")
    in_term = ibis.window(group_by=["account_id", "term"])
    without_event = (steps.event_type == _FIRST_PAYMENT).max().over(in_term)
    table_renewal_day = ibis.ifelse(without_event, day_number(steps.contract_renewal_date), None)
    steps = materialized(
        steps.mutate(renewal_day=ibis.coalesce(steps.renewal_day, table_renewal_day))
    )

    failed = steps.event_type == _FAILED
    run = ibis.window(group_by=["account_id", "run"])
    run_so_far = ibis.cumulative_window(group_by=["account_id", "run"], order_by="step")
    steps = steps.mutate(
        open_failures=failed.cast("int64").sum().over(run_so_far),
        failure_since=ibis.ifelse(failed, steps.day, None).min().over(run),
        closing_event_id=ibis.ifelse(steps.closes, steps.event_id, None).max().over(run),
        closing_step=ibis.ifelse(steps.closes, steps.step, None).max().over(run),
        closing_day=ibis.ifelse(steps.closes, steps.day, None).max().over(run),
        term_last=steps.holds_until.max().over(ibis.window(group_by=["account_id", "term"])),
        is_failure=failed,
    )
    latest_failure = ibis.window(group_by=["account_id", "run", "open_failures"])
    return materialized(
        steps.mutate(
            failure_open=~steps.closes & (steps.open_failures > 0),
            grace_until=ibis.ifelse(steps.is_failure, steps.grace_until, None)
            .max()
            .over(latest_failure),
            failure_event_id=ibis.ifelse(
                steps.is_failure & (steps.open_failures == 1), steps.event_id, None
            )
            .max()
            .over(run),
        )
    )


def _events(accounts: ir.Table, subscription_events: ir.Table) -> ir.Table:
    """Return account subscription events, first payments without an event, and new versions."""
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
        seats=known.total_seats,
        revenue=known.monthly_recurring_revenue,
        tier=known.subscription_tier,
        pause_reason=known.pause_reason,
    )
    openings = known.filter(known.event_type.isin((_STARTED, _RENEWED)))
    opened = openings.group_by("account_id").aggregate(opened_at=openings["at"].min())
    paid = one_row_per_entity(accounts, ["account_id", "first_paid_at", "first_paid_date"])
    paid = paid.filter(paid.first_paid_at.notnull()).left_join(opened, "account_id")
    paid = paid.filter(paid.opened_at.isnull() | (paid.first_paid_at <= paid.opened_at))
    first_payments = paid.select(
        "account_id",
        event_id=ibis.literal(""),  # Sorts before other events at the same time.
        at=paid.first_paid_at,
        event_type=ibis.literal(_FIRST_PAYMENT),
        day=day_number(paid.first_paid_date),
    )
    versions = version_intervals(accounts, "account_id", [])
    versions = versions.filter(versions.valid_from > ALWAYS).select(
        "account_id",
        event_id=ibis.literal(""),
        event_type=ibis.literal(_NEW_VERSION),
        day="valid_from",
    )
    return union_by_name(known, first_payments, versions)
