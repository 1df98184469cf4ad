"""gold_activity_metrics: events by product, feature, type and location, and workflow completion."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets.bronze.bronze_product_catalog import product_of_node
from monstera_assets.gold import authoring as ma
from monstera_assets.gold.gold_users_active_daily import USERS_ACTIVE
from monstera_assets.lifecycle.intervals import ALWAYS
from monstera_assets.lifecycle.workflows import RUN, with_position, workflow_runs

EVENTS = ma.Metric(
    "Events Recorded Daily",
    "User events on the date.",
    "count(event_id)",
    additivity=ma.Additivity.ADDITIVE,
)
EVENTS_QUALIFYING = ma.Metric(
    "Events Qualifying Daily",
    "Qualifying user events on the date.",
    "count(event_id) where is_qualifying_event",
    additivity=ma.Additivity.ADDITIVE,
)
USERS_PRESENT = ma.Metric(
    "Users Present Daily",
    "Distinct users with an event of any kind on the date.",
    "count(distinct user_id)",
    caveats="Each user is counted once per row, so the rows do not add up to the totals.",
    distinct=ma.DistinctUsers(only_active=False),
)
_ON_PRODUCTS = "null in rows other than totals"
WORKFLOWS_STARTED = ma.Metric(
    "Workflows Started Daily",
    "Workflow runs that started on the date, counted under the product of their first step;"
    f" {_ON_PRODUCTS}.",
    "count(runs) by the date of the first step",
    nullable=True,
    additivity=ma.Additivity.ADDITIVE,
)
WORKFLOWS_COMPLETED = ma.Metric(
    "Workflows Completed Daily",
    "Workflow runs that were completed on the date, counted under the product of their first"
    f" step; {_ON_PRODUCTS}.",
    "count(runs) by the date of the last step",
    nullable=True,
    additivity=ma.Additivity.ADDITIVE,
)
COMPLETION_RATE = ma.Metric(
    "Workflows Completed Share Weekly",
    "Completed share of workflow runs that started workflow_days (7 days) before the date;"
    f" null if there are no such runs, and {_ON_PRODUCTS}.",
    "count(completed) / count(started) for runs that started workflow_days earlier",
    population="workflow runs that started workflow_days (7 days) before the date",
)
HOURS_TO_COMPLETE = ma.Metric(
    "Workflows Hours to Complete Median Daily",
    "Median hours between the first and last steps of workflow runs completed on the date; null if"
    f" there are no such runs, and {_ON_PRODUCTS}.",
    "median(completed_at - started_at)",
    ma.Unit.HOURS,
    nullable=True,
    population="workflow runs completed on the date",
)
_COUNTS = (EVENTS, EVENTS_QUALIFYING, USERS_PRESENT, USERS_ACTIVE)
_OF_RUNS = (WORKFLOWS_STARTED, WORKFLOWS_COMPLETED, COMPLETION_RATE, HOURS_TO_COMPLETE)
WHAT = ("product_id", "feature_id", "event_type", "location")

TABLE = ma.metric_table(
    "gold_activity_metrics",
    group=ma.AssetGroup.SEGMENTS,
    grain="one observed combination of date, product, feature, event type and location, plus totals",
    description="What did users do on each date, and in which products and features? Rows with"
    f" `{ma.TOTAL}` as the feature, event type and location are product totals: one per date and"
    " product, starting on its launch date or the date of its first event, and one per date for"
    f" `{ma.NONE}`. If the product is also `{ma.TOTAL}`, the row is the total for the date. Events"
    f" without a product or feature have the value `{ma.NONE}`. If the id of a product or feature is"
    f" `{ma.TOTAL}` or `{ma.NONE}`, an underscore is appended, as in `{ma.TOTAL}_`.",
    dimensions=(
        ma.METRIC_DATE,
        ma.Column(
            "product_id", "string", f"Product id, `{ma.NONE}`, or `{ma.TOTAL}` for the total."
        ),
        ma.Column(
            "feature_id",
            "string",
            f"Feature or sub-feature id, `{ma.NONE}`, or `{ma.TOTAL}` for totals.",
        ),
        ma.Column("event_type", "string", f"Event type; `{ma.TOTAL}` for totals."),
        ma.Column("location", "string", f"Event location; `{ma.TOTAL}` for totals."),
    ),
    metrics=(*_COUNTS, *_OF_RUNS),
    slices=(
        ma.Slice("", dict.fromkeys(WHAT, ma.TOTAL)),
        ma.Slice(
            "by_product",
            dict.fromkeys(WHAT[1:], ma.TOTAL),
            parts=("product_id",),
            without=(USERS_PRESENT, USERS_ACTIVE),  # a user can use several products
        ),
    ),
)


@ma.table_asset(
    TABLE,
    days={
        "silver_events_enriched": ma.SAME_DAYS,
        "silver_workflow_steps": ma.UP_TO_DAY,
        "silver_daily_user_activity": ma.UP_TO_DAY,
    },
    batch_by_date=True,
)
def gold_activity_metrics(
    silver_events_enriched: ir.Table,
    silver_workflow_steps: ir.Table,
    silver_daily_user_activity: ir.Table,
    bronze_workflows: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """Count events by combination, by product and in total, and add workflow runs to the totals."""
    events = silver_events_enriched.filter(silver_events_enriched.entity_type == "user")
    # Each aggregation builds on the previous result to avoid counting distinct users in the events.
    by_what = ma.materialized(
        events.group_by(
            "entity_id",
            metric_date="event_date",
            product_id=ma.published_ids(events.product_id).fill_null(ma.NONE),
            feature_id=ma.published_ids(events.feature_id).fill_null(ma.NONE),
            event_type=events.event_type,
            location=events.location,
        ).aggregate(
            events=events.count(), qualifying=events.count(where=events.is_qualifying_event)
        )
    )
    by_product = ma.materialized(_of_users(by_what, "product_id"))
    total = ibis.literal(ma.TOTAL)
    occurring = _counted(by_what, *WHAT).mutate(
        **{metric.column_name: ibis.null(metric.column.type) for metric in _OF_RUNS}
    )
    in_all = _counted(_of_users(by_product)).mutate(product_id=total)
    by_products = _counted(by_product, "product_id")
    counted = by_products.union(in_all.select(*by_products.columns))
    activity = silver_daily_user_activity
    used = activity.group_by("product_id").aggregate(
        used_from=ma.day_number(activity.activity_date.min())
    )
    catalog = bronze_product_catalog.filter(bronze_product_catalog.tier == "product")
    products = catalog.left_join(used, "product_id")
    products = products.select(
        product_id=ma.published_ids(products.product_id),
        used_from=ibis.least(ma.day_number(products.created_date), products.used_from),
    )
    always = ibis.array([ma.NONE, ma.TOTAL]).unnest().name("product_id").as_table()
    products = products.union(always.mutate(used_from=ibis.literal(ALWAYS, "int64")))
    dates = ma.dates(window)
    grid = dates.inner_join(products, ma.day_number(dates.metric_date) >= products.used_from).drop(
        "used_from"
    )
    runs = _runs(silver_workflow_steps, bronze_workflows, bronze_product_catalog, policy, window)
    rows = ma.left_joined(grid, counted, runs, on=["metric_date", "product_id"])
    totals = rows.select(
        "metric_date",
        "product_id",
        **dict.fromkeys(WHAT[1:], total),
        **ma.zero_filled(rows, _COUNTS),
        **{
            WORKFLOWS_STARTED.column_name: rows.started.fill_null(0),
            WORKFLOWS_COMPLETED.column_name: rows.completed.fill_null(0),
            COMPLETION_RATE.column_name: ma.ratio(
                rows.matured_completed.fill_null(0), rows.matured
            ),
            HOURS_TO_COMPLETE.column_name: rows.hours,
        },
    )
    return totals.union(occurring.select(*totals.columns))


def _of_users(counts: ir.Table, *what: str) -> ir.Table:
    return counts.group_by("metric_date", "entity_id", *what).aggregate(
        events=counts.events.sum(), qualifying=counts.qualifying.sum()
    )


def _counted(of_users: ir.Table, *what: str) -> ir.Table:
    """Count events and users by date and the given columns."""
    return of_users.group_by("metric_date", *what).aggregate(
        **{
            EVENTS.column_name: of_users.events.sum().cast("int64"),
            EVENTS_QUALIFYING.column_name: of_users.qualifying.sum().cast("int64"),
            USERS_PRESENT.column_name: of_users.count(),
            USERS_ACTIVE.column_name: of_users.count(where=of_users.qualifying > 0),
        }
    )


def _runs(
    steps: ir.Table,
    workflows: ir.Table,
    catalog: ir.Table,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """Count started, completed and mature runs per date, by the first step's product and in total.

    A run is mature `workflow_days` days after it starts.
    """
    earliest = ma.first_day(window) - policy.workflow_days
    recent = steps.filter(ma.day_number(steps.step_date) >= earliest)
    runs = workflow_runs(steps.semi_join(recent.select(*RUN).distinct(), RUN), workflows, policy)
    nodes = product_of_node(catalog).rename(rolled_up_product_id="product_id")
    first_steps = with_position(workflows).filter(ibis._.position == 1)
    first_steps = first_steps.left_join(nodes, first_steps.product_id == nodes.node_id).select(
        "workflow_id", product_id=ma.published_ids(nodes.rolled_up_product_id).fill_null(ma.NONE)
    )
    runs = runs.inner_join(first_steps, "workflow_id")
    runs = runs.select(
        "product_id",
        "started_day",
        "completed_day",
        is_completed=runs.completed_day.notnull(),
        hours=ma.hours_between(runs.started_at, runs.completed_at),
    )
    runs = ma.materialized(runs.union(runs.mutate(product_id=ibis.literal(ma.TOTAL))))
    started = runs.group_by("product_id", day="started_day").aggregate(started=runs.count())
    done = runs.filter(runs.is_completed)
    completed = done.group_by("product_id", day="completed_day").aggregate(
        completed=done.count(), hours=done.hours.median()
    )
    matured = runs.group_by("product_id", day=runs.started_day + policy.workflow_days).aggregate(
        matured=runs.count(), matured_completed=runs.count(where=runs.is_completed)
    )
    key = ("product_id", "day")
    every = ibis.union(
        *(part.select(*key) for part in (started, completed, matured)), distinct=True
    )
    every = ma.left_joined(every, started, completed, matured, on=key)
    every = every.mutate(metric_date=ma.day_date(every.day)).drop("day")
    return ma.within(every, "metric_date", window)


@ma.rule(TABLE)
def events_add_up(
    gold_activity_metrics: ir.Table, bronze_events: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Detail rows and product totals add up to the date's total, which agrees with the raw events."""
    rows = ma.within(gold_activity_metrics, "metric_date", window)
    is_total = rows.product_id == ma.TOTAL
    is_product = ~is_total & (rows.event_type == ma.TOTAL)
    kinds = {"total": is_total, "products": is_product, "parts": ~is_total & ~is_product}
    published = rows.group_by("metric_date").aggregate(
        **{
            f"{kind}_{name}": rows[metric.column_name].sum(where=applies).fill_null(0).cast("int64")
            for kind, applies in kinds.items()
            for name, metric in (("events", EVENTS), ("qualifying", EVENTS_QUALIFYING))
        }
    )
    events = ma.within(bronze_events, "event_date", window)
    events = events.filter(events.entity_type == "user")
    counted = events.group_by(metric_date="event_date").aggregate(
        events=events.count(), qualifying=events.count(where=events.is_qualifying_event)
    )
    both = ma.left_joined(published, counted, on=["metric_date"])
    return both.filter(
        ibis.or_(
            *(
                both[f"{kind}_{name}"] != both[name].fill_null(0)
                for kind in kinds
                for name in ("events", "qualifying")
            )
        )
    )


@ma.rule(TABLE)
def users_agree_with_daily_activity(
    gold_activity_metrics: ir.Table, silver_daily_user_activity: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Each product's user counts agree with silver_daily_user_activity."""
    rows = ma.within(gold_activity_metrics, "metric_date", window)
    rows = rows.filter(rows.event_type == ma.TOTAL, rows.product_id != ma.TOTAL)
    columns = (USERS_PRESENT.column_name, USERS_ACTIVE.column_name)
    published = rows.filter(ibis.or_(*(rows[column] != 0 for column in columns)))
    activity = ma.within(silver_daily_user_activity, "activity_date", window)
    counted = activity.group_by(
        metric_date=activity.activity_date,
        product_id=ma.published_ids(activity.product_id).fill_null(ma.NONE),
    ).aggregate(
        **{
            columns[0]: activity.count(),
            columns[1]: activity.count(where=activity.qualifying_events > 0),
        }
    )
    return ma.differing_rows(published.select("metric_date", "product_id", *columns), counted)
