"""gold_users_active_monthly: users with a qualifying event in the last 30 days."""

from monstera_assets.gold.users_active_table import users_active_table

TABLE, gold_users_active_monthly, recomputed_from_raw_events, segments_add_up = users_active_table(
    "Monthly",
    days=30,
    caveats="The active state lasts one day longer than this window, until 30 days after the last"
    " qualifying event.",
    trend="MAU over 26 weeks",
)
[USERS_ACTIVE] = TABLE.metrics
