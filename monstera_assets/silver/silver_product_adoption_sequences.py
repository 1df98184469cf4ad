"""silver_product_adoption_sequences: the sequences in which users adopt products."""

from __future__ import annotations

from datetime import timedelta

import ibis
import ibis.expr.types as ir

from monstera_assets import authoring as ma

ARROW = " > "
_MARK = ARROW.strip()
PERIOD_DAYS = 30
RETENTION_FROM = (30, 90)
"""Number of days after an adoption at which each retention period starts."""

TABLE = ma.declare_table(
    "silver_product_adoption_sequences",
    group=ma.AssetGroup.PRODUCTS,
    grain="one path, which is a sequence of products in the order of adoption",
    description="In what order had users adopted products by the as-of date? Each row counts the"
    " users whose first adoptions match the row's path, in order. In users_ending, each adopter counts"
    " toward exactly one path, which contains all products that the user adopted.",
    key=("path",),
    columns=(
        ma.Column(
            "path",
            "string",
            f"Product ids, separated by `{ARROW}`. Within an id, `{_MARK}` is doubled.",
        ),
        ma.Column("path_length", "int64", "Number of products."),
        ma.product_column("first_product_id", "First product in the path."),
        ma.product_column("last_product_id", "Last product in the path."),
        ma.nullable(
            "previous_path", "string", "Path without its last product, or null if path_length is 1."
        ),
        ma.Column(
            "users", "int64", "Number of users who adopted these products first, in this order."
        ),
        ma.Column(
            "users_ending",
            "int64",
            "Number of users who adopted only these products, in this order.",
        ),
        ma.Column(
            "share_of_adopters",
            "float64",
            "users / number of adopters of any product, between 0 and 1.",
            is_share=True,
        ),
        ma.share(
            "share_of_previous",
            "users / users on the previous path, between 0 and 1, or null if path_length is 1.",
        ),
        ma.nullable(
            "median_days_since_previous",
            "float64",
            "Median days between the last two adoptions, or null if path_length is 1.",
        ),
        ma.Column(
            "median_days_since_signup", "float64", "Median days from signup to the last adoption."
        ),
        *(
            column
            for start in RETENTION_FROM
            for column in (
                ma.Column(
                    f"users_mature_{start}",
                    "int64",
                    "Number of users who adopted the last product at least"
                    f" {start + PERIOD_DAYS - 1} days ago.",
                ),
                ma.share(
                    f"retention_{start}",
                    f"Share of users_mature_{start} with a qualifying event on days {start} through"
                    f" {start + PERIOD_DAYS - 1} after the adoption, or null if users_mature_{start}"
                    " is 0.",
                ),
            )
        ),
        ma.AS_OF_DATE,
    ),
)


@ma.table_asset(TABLE, days={"silver_daily_user_activity": ma.ALL_DAYS})
def silver_product_adoption_sequences(
    silver_user_product_adoptions: ir.Table, silver_daily_user_activity: ir.Table
) -> ir.Table:
    """Build the path that leads to each adoption and aggregate by path."""
    adoptions = _with_retention(silver_user_product_adoptions, silver_daily_user_activity)
    so_far = ibis.cumulative_window(group_by="user_id", order_by="sequence_number")
    before = ibis.window(group_by="user_id", order_by="sequence_number", preceding=(None, 1))
    # An id that contains the separator must not look like two ids.
    escaped = adoptions.product_id.replace(_MARK, _MARK * 2)
    steps = adoptions.mutate(
        path=escaped.collect().over(so_far).join(ARROW),
        previous_path=ibis.ifelse(
            adoptions.sequence_number > 1,
            escaped.collect().over(before).join(ARROW),
            None,
        ),
        first_product_id=adoptions.product_id.first().over(so_far),
    )
    counted = steps.group_by(
        "path",
        "previous_path",
        "first_product_id",
        path_length="sequence_number",
        last_product_id="product_id",
        as_of_date="as_of_date",
    ).aggregate(
        users=steps.count(),
        users_ending=steps.count(where=steps.sequence_number == steps.products_adopted),
        median_days_since_previous=steps.days_since_previous_adoption.median().cast("float64"),
        median_days_since_signup=steps.days_since_signup.median().cast("float64"),
        **{
            f"{name}_{start}": steps.count(where=steps[f"{name}_{start}"])
            for start in RETENTION_FROM
            for name in ("users_mature", "retained")
        },
    )
    counted = ma.materialized(counted)
    adopters = counted.filter(counted.path_length == 1).aggregate(adopters=ibis._.users.sum())
    previous = counted.select(previous_path=counted.path, users_before=counted.users)
    paths = ma.left_joined(counted.cross_join(adopters), previous, on=["previous_path"])
    return paths.select(
        *(name for name in counted.columns if not name.startswith("retained")),
        share_of_adopters=ma.ratio(paths.users, paths.adopters),
        share_of_previous=ma.ratio(paths.users, paths.users_before),
        **{
            f"retention_{start}": ma.ratio(
                paths[f"retained_{start}"], paths[f"users_mature_{start}"]
            )
            for start in RETENTION_FROM
        },
    )


def products_in(path: str) -> list[str]:
    """Return the product ids in a path."""
    return [product.replace(_MARK * 2, _MARK) for product in path.split(ARROW)]


def _with_retention(adoptions: ir.Table, activity: ir.Table) -> ir.Table:
    """Add flags for whether each period after an adoption has ended and had activity."""
    used = activity.filter(activity.qualifying_events > 0)
    used = used.select("user_id", used_on=used.activity_date).distinct()
    steps = adoptions.select("user_id", "sequence_number", "adoption_date", "as_of_date")
    first_day = steps.adoption_date + timedelta(days=min(RETENTION_FROM))
    in_time = (used.used_on >= first_day) & (used.used_on <= steps.as_of_date)
    later = steps.inner_join(used, ["user_id", in_time])
    after = ma.day_number(later.used_on) - ma.day_number(later.adoption_date)
    seen = later.group_by("user_id", "sequence_number").aggregate(
        **{
            f"seen_{start}": after.between(start, start + PERIOD_DAYS - 1).any()
            for start in RETENTION_FROM
        }
    )
    joined = adoptions.left_join(seen, ["user_id", "sequence_number"])
    age = ma.day_number(joined.as_of_date) - ma.day_number(joined.adoption_date)
    mature = {start: age >= start + PERIOD_DAYS - 1 for start in RETENTION_FROM}
    return joined.select(
        *adoptions.columns,
        **{f"users_mature_{start}": mature[start] for start in RETENTION_FROM},
        **{
            f"retained_{start}": mature[start] & joined[f"seen_{start}"].fill_null(False)
            for start in RETENTION_FROM
        },
    )


@ma.rule(TABLE)
def sequences_partition_the_adopters(
    silver_product_adoption_sequences: ir.Table, silver_user_product_adoptions: ir.Table
) -> ir.Table:
    """Every adopter on a path either stops at the end of the path or continues on a longer path."""
    paths = silver_product_adoption_sequences
    onward = paths.group_by(path=paths.previous_path).aggregate(
        going_on=paths.users.sum().cast("int64")
    )
    both = ma.left_joined(paths, onward, on=["path"])
    leaking = both.filter(both.users != both.users_ending + both.going_on.fill_null(0))
    published = paths.group_by("path_length").aggregate(
        users=paths.users.sum().cast("int64"), ending=paths.users_ending.sum().cast("int64")
    )
    adoptions = silver_user_product_adoptions
    counted = adoptions.group_by(length="sequence_number").aggregate(
        adopters=adoptions.count(),
        stopping=adoptions.count(where=adoptions.sequence_number == adoptions.products_adopted),
    )
    lengths = counted.outer_join(published, counted.length == published.path_length)
    differing = lengths.filter(
        ~lengths.users.identical_to(lengths.adopters)
        | ~lengths.ending.identical_to(lengths.stopping)
    )
    return leaking.select("path", "users", "users_ending").union(
        differing.select(
            path="paths of length "
            + ibis.coalesce(lengths.length, lengths.path_length).cast("string"),
            users=differing.users,
            users_ending=differing.ending,
        )
    )
