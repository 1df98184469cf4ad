"""gold_users_active_daily: users with a qualifying event on the date."""

from monstera_assets.gold.users_active_table import users_active_table

TABLE, gold_users_active_daily, recomputed_from_raw_events, segments_add_up = users_active_table(
    "Daily", days=1
)
[USERS_ACTIVE] = TABLE.metrics
