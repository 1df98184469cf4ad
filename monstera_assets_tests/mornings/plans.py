"""The companies of the tests: sixty mornings of one, 200 of another, and five of each."""

from __future__ import annotations

from datetime import date

from monstera_assets_tests.mornings.company import Plan

SIXTY = Plan(
    first=date(2025, 2, 3),
    history=100,
    mornings=60,
    outages=(12, 39),
    delayed={17: 75},
    twice=(22,),
    quiet=(19,),
    campaign=(-10, -4),
    card_failures=9,
    win_back=40,
    merges={
        3: "into_known",
        9: "into_new",
        15: "without_row",
        24: "chain",
        31: "corrected",
        44: "into_known",
    },
    deletions=(11, 36, 50),
    node_added=8,
    node_renamed=21,
    node_owned=26,
    windows_changed=30,
    command=35,
)
SIXTY_SEED = 7

SEATS = Plan(
    first=date(2025, 1, 6),
    history=30,
    mornings=200,
    users=45,
    short_users=8,
    signups=0.05,
    accounts=10,
    accounts_without_facts=5,
    trials=2,
    seat_changes=0.06,
    outages=(23, 117),
    delayed={50: 40},
    twice=(70,),
    without_events=(81, 145),
    quiet=(95,),
    merges={20: "into_new", 61: "into_known", 110: "without_row", 150: "chain", 170: "corrected"},
    deletions=(100, 160),
    node_added=40,
    node_renamed=60,
    node_owned=90,
    windows_changed=130,
)
"""With `restate_days` = 400, no change is beyond the bound, and no command is needed."""
SEATS_SEED = 11
SEATS_RESTATE_DAYS = 400

FIVE_OF_SIXTY = Plan(
    first=date(2025, 2, 3),
    history=30,
    mornings=5,
    users=60,
    short_users=12,
    accounts=14,
    accounts_without_facts=2,
    trials=3,
    corrected=0.01,
    outages=(3,),
    twice=(2,),
    merges={2: "into_known", 4: "into_new"},
    deletions=(4,),
    node_added=2,
    windows_changed=4,
    command=5,
)
FIVE_OF_SIXTY_SEED = 3
FIVE_RESTATE_DAYS = 20
"""Less than the days of history, so that there are days beyond the bound."""

FIVE_OF_SEATS = Plan(
    first=date(2025, 1, 6),
    history=30,
    mornings=5,
    users=30,
    short_users=5,
    signups=0.2,
    accounts=10,
    accounts_without_facts=5,
    trials=2,
    seat_changes=0.15,
    corrected=0.02,
    outages=(3,),
    delayed={4: 65},
    without_events=(5,),
    merges={2: "without_row"},
    node_added=2,
    node_renamed=4,
    node_owned=5,
    windows_changed=5,
)
FIVE_OF_SEATS_SEED = 5
