"""gold_users_active_weekly: users with a qualifying event in the last 7 days."""

from monstera_assets.gold.users_active_table import users_active_table

TABLE, gold_users_active_weekly, recomputed_from_raw_events, segments_add_up = users_active_table(
    "Weekly", days=7
)
[USERS_ACTIVE] = TABLE.metrics
