"""silver_cross_product_activity: each user's daily product use and product switches."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma
from monstera_assets.bronze.bronze_product_catalog import product_of_node
from monstera_assets.lifecycle.workflows import RUN, workflow_runs

TABLE = ma.declare_table(
    "silver_cross_product_activity",
    group=ma.AssetGroup.PRODUCTS,
    grain="one user and day with at least one event in a product",
    description="How many products did each user visit and how many workflows did they complete"
    " each day? Days without product events do not have a row.",
    key=("user_id", "activity_date"),
    partition_column="activity_date",
    takes_earlier_rows=True,
    columns=(
        ma.USER_ID,
        ma.ACTIVITY_DATE,
        ma.Column("products_visited", "int64", "Number of products with an event of any kind."),
        ma.Column("products_used", "int64", "Number of products with a qualifying event."),
        ma.product_column(
            "primary_product_id",
            "Product with the most qualifying events. Ties are broken by total events, then by the"
            " lower id.",
        ),
        ma.Column(
            "product_switches",
            "int64",
            "Number of events in a different product from the previous event, ordered by time and"
            " event id.",
        ),
        ma.Column("workflows_completed", "int64", "Number of workflow runs completed on the day."),
        ma.Column(
            "cross_product_workflows_completed",
            "int64",
            "Number of completed runs of workflows with steps in more than one product.",
        ),
    ),
)


@ma.table_asset(
    TABLE,
    days={"silver_events_enriched": ma.SAME_DAYS, "silver_workflow_steps": ma.UP_TO_DAY},
    batch_by_date=True,
)
def silver_cross_product_activity(
    silver_events_enriched: ir.Table,
    silver_workflow_steps: ir.Table,
    bronze_workflows: ir.Table,
    bronze_product_catalog: ir.Table,
    *,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """Aggregate each day's product events and add the completed workflow runs."""
    events = silver_events_enriched
    events = events.filter(events.entity_type == "user", events.product_id.notnull())
    by_product = events.group_by(
        user_id="entity_id", activity_date="event_date", product_id="product_id"
    ).aggregate(events=events.count(), qualifying=events.count(where=events.is_qualifying_event))
    days = by_product.group_by("user_id", "activity_date").aggregate(
        products_visited=by_product.count(),
        products_used=by_product.count(where=by_product.qualifying > 0),
        primary_product_id=ma.first_of(
            by_product.product_id, order_by=[-by_product.qualifying, -by_product.events]
        ),
    )
    switches = _switches(events, days.filter(days.products_visited > 1))
    completed = _completions(
        silver_workflow_steps, bronze_workflows, bronze_product_catalog, policy, window
    )
    joined = ma.left_joined(days, completed, switches, on=TABLE.key)
    counts = ("product_switches", "workflows_completed", "cross_product_workflows_completed")
    return joined.mutate(**{name: joined[name].fill_null(0) for name in counts})


def _switches(events: ir.Table, days: ir.Table) -> ir.Table:
    """On days with several products, count events in a different product from the previous event.

    On most days, a user uses only one product, so the events on those days do not need to be sorted.
    """
    events = events.rename(user_id="entity_id", activity_date="event_date")
    events = events.semi_join(days, TABLE.key)
    in_order = ibis.window(group_by=TABLE.key, order_by=["event_timestamp", "event_id"])
    events = events.mutate(before=events.product_id.lag().over(in_order))
    return events.group_by(TABLE.key).aggregate(
        product_switches=events.count(where=events.before != events.product_id)
    )


def _completions(
    steps: ir.Table,
    workflows: ir.Table,
    catalog: ir.Table,
    policy: ma.LifecyclePolicy,
    window: ma.Window,
) -> ir.Table:
    """Count completed runs per user and day.

    Only runs with a step in the window can be completed in the window.
    """
    within_window = steps.filter(steps.step_date.between(window.first, window.last))
    moved = steps.semi_join(within_window.select(*RUN).distinct(), RUN)
    runs = workflow_runs(moved, workflows, policy)
    nodes = product_of_node(catalog).rename(rolled_up_product_id="product_id")
    placed = workflows.inner_join(nodes, workflows.product_id == nodes.node_id)
    spans = placed.group_by("workflow_id").aggregate(products=placed.rolled_up_product_id.nunique())
    runs = runs.filter(runs.completed_day.notnull()).inner_join(spans, "workflow_id")
    return runs.group_by("user_id", activity_date=ma.day_date(runs.completed_day)).aggregate(
        workflows_completed=runs.count(),
        cross_product_workflows_completed=runs.count(where=runs.products > 1),
    )


@ma.rule(TABLE)
def agrees_with_daily_activity(
    silver_cross_product_activity: ir.Table,
    silver_daily_user_activity: ir.Table,
    *,
    window: ma.Window,
) -> ir.Table:
    """Users, days and product counts match silver_daily_user_activity."""
    rows = ma.within(silver_cross_product_activity, "activity_date", window)
    activity = ma.within(silver_daily_user_activity, "activity_date", window)
    activity = activity.filter(activity.product_id.notnull())
    counted = activity.group_by("user_id", "activity_date").aggregate(
        products_visited=activity.count(),
        products_used=activity.count(where=activity.qualifying_events > 0),
    )
    return ma.differing_rows(rows.select(*counted.columns), counted)


@ma.rule(TABLE)
def counts_are_possible(
    silver_cross_product_activity: ir.Table, silver_workflow_runs: ir.Table, *, window: ma.Window
) -> ir.Table:
    """Product switches and workflow counts are consistent with product visits and completed runs."""
    rows = ma.within(silver_cross_product_activity, "activity_date", window)
    runs = silver_workflow_runs
    completed = runs.filter(runs.completed_at.notnull())
    completed = completed.group_by("user_id", activity_date="last_step_date").aggregate(
        runs=completed.count()
    )
    both = ma.left_joined(rows, completed, on=TABLE.key)
    # The workflow runs describe the as-of date, so later completions are missing.
    known = both.activity_date <= runs.aggregate(day=runs.as_of_date.max()).day.as_scalar()
    return both.filter(
        (both.product_switches < both.products_visited - 1)
        | ((both.products_visited == 1) & (both.product_switches > 0))
        | (both.cross_product_workflows_completed > both.workflows_completed)
        | (known & (both.workflows_completed != both.runs.fill_null(0))).fill_null(False)
    )
