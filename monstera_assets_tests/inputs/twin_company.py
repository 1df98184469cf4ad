"""A company with many segments and with names that are easily taken for one another.

It has 16 countries and 1,400 acquisition sources, among them `google` and `Google`. Values of plans and
tiers differ only in case, spaces or underscores. Two products and two features have the same name, and
a product has the id `all`. There are more products, features, event types and accounts that need
attention than the pages show. The files are always the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from random import Random

from monstera_assets_tests.helpers.source_files import Texts, write_source

FIRST, LAST = date(2024, 11, 15), date(2025, 2, 2)
COUNTRIES = (
    *(
        "US",
        "us",
        "DE",
        "FR",
        "UK",
        "IN",
        "BR",
        "JP",
        "CA",
        "AU",
        "ES",
        "IT",
        "NL",
        "SE",
        "PL",
        "MX",
    ),
)
SOURCES = {
    "google": 490,
    "Google": 78,
    "google_ads": 30,
    "Google Ads": 25,
    "GOOGLE_ADS": 20,
    "Other": 12,
    "other": 11,
    "all": 10,
    "none": 9,
    **{f"campaign_{number:04}": 1 for number in range(1391)},
}
"""The number of users per acquisition source."""
PLANS = ("web_app", "Web App", "web app", "free")
TIERS = ("starter", "Starter", "professional", "enterprise")
PRODUCTS = {
    "studio_1": "Studio",
    "studio_2": "Studio",
    "all": "Everything",
    "old": "Old Product",
    **{f"product_{number:02}": f"Product {number}" for number in range(1, 17)},
}
FEATURES = {
    "export_1": "Export",
    "export_2": "Export",
    "none": "Nothing",
    **{f"feature_{number:02}": f"Feature {number}" for number in range(1, 11)},
}
VERBS = (
    *("created", "edited", "shared", "copied", "moved", "sorted", "tagged", "merged", "closed"),
    *("opened", "pinned", "sent", "drawn"),
)
ACCOUNTS = 300


def write_twin_company(folder: Path) -> Path:
    """Write the source, with days from `FIRST` to `LAST`, and return its folder."""
    random = Random(1)  # noqa: S311  # not for secrets
    users = _users(random)
    return write_source(
        folder,
        {
            "product_catalog": list(_catalog()),
            "accounts": [_account(number) for number in range(ACCOUNTS)],
            "users": users,
            "events": list(_events(random, users)),
            "subscription_events": list(_facts(random)),
            "workflows": [
                {"workflow_id": "w1", "workflow_name": "Publishing", "product_id": "studio_1"}
                | {"step_number": str(step), "event_type": f"item_{verb}"}
                for step, verb in enumerate(VERBS[:2], 1)
            ],
        },
    )


def _catalog() -> Iterator[Texts]:
    yield {"product_id": "work", "product_name": "Work", "tier": "family"}
    for node, name in PRODUCTS.items():
        yield {
            "product_id": node,
            "product_name": name,
            "product_family_id": "work",
            "tier": "product",
            "parent_product_id": "work",
            "is_active": str(node != "old").lower(),
            "created_at": "2024-01-01",
            "activation_event_types": "item_created",
            "qualifying_event_types": "|".join(f"item_{verb}" for verb in VERBS),
        }
    for number, (node, name) in enumerate(FEATURES.items()):
        yield {
            "product_id": node,
            "product_name": name,
            "product_family_id": "work",
            "tier": "feature",
            "parent_product_id": list(PRODUCTS)[number % 5],
            "created_at": "2024-01-01",
        }


def _account(number: int) -> Texts:
    is_trial = number % 20 == 0
    return {
        "account_id": f"a{number:03}",
        "account_name": f"Account {number}",
        "subscription_tier": "trial" if is_trial else TIERS[number % len(TIERS)],
        "total_seats": str(10 if number % 6 == 0 else 40),
        "account_created_at": "2025-01-20" if is_trial else "2024-03-01",
        "first_paid_at": "" if is_trial else "2024-03-05",
        "contract_renewal_date": "" if is_trial else str(date(2025, 4, 1) + timedelta(number)),
        "monthly_recurring_revenue": "0" if is_trial else f"{20 + number * 3}.50",
        "is_trial": str(is_trial).lower(),
    }


def _users(random: Random) -> list[Texts]:
    sources = [source for source, users in SOURCES.items() for _ in range(users)]
    random.shuffle(sources)
    return [
        {
            "user_id": f"u{number:04}",
            "email": f"u{number:04}@example.invalid",
            "account_id": f"a{number % ACCOUNTS:03}",
            "user_created_at": _at(random, random.choice((0, 0, *range((LAST - FIRST).days)))),
            "country": random.choices(COUNTRIES, range(len(COUNTRIES), 0, -1))[0],
            "plan_type": random.choice(PLANS),
            "acquisition_source": source,
        }
        for number, source in enumerate(sources)
    ]


def _events(random: Random, users: Sequence[Texts]) -> Iterator[Texts]:
    products, last = [*PRODUCTS, ""], (LAST - FIRST).days
    number = 0
    for user in users:
        signup = datetime.fromisoformat(user["user_created_at"])
        first = (signup.date() - FIRST).days
        own = random.choices(products, range(len(products), 0, -1), k=random.randint(1, 3))
        days = {first, *(random.randint(first, last) for _ in range(random.randint(0, 4)))}
        for day in sorted(days):
            node = random.choice([*own, random.choice([*FEATURES])])
            for verb in random.sample(VERBS, random.randint(1, 2)) if node else ("opened",):
                number += 1
                yield {
                    "event_id": f"e{number:05}",
                    "entity_id": user["user_id"],
                    "entity_type": "user",
                    "event_type": f"item_{verb}",
                    "timestamp": max(_at(random, day), user["user_created_at"]),
                    "location": random.choice(("web_app", "mobile_app", "api")),
                    "session_id": f"s{user['user_id']}{day}",
                    "product_id": node,
                }


def _facts(random: Random) -> Iterator[Texts]:
    for number in range(ACCOUNTS):
        day = random.randint(1, (LAST - FIRST).days)
        terms: dict[str, object] = {}
        match number % 8:
            case 1:
                kind, terms = "seats_changed", {"total_seats": 6, "monthly_recurring_revenue": 900}
            case 2:
                kind, terms = "tier_changed", {"monthly_recurring_revenue": 15.25}
            case 3:
                kind = "payment_failed"
            case 4:
                kind, terms = "subscription_cancelled", {"effective_date": "2025-01-15"}
            case 0 if number % 20 == 0:
                day, kind = 70, "subscription_started"
                terms = {"monthly_recurring_revenue": 75, "subscription_tier": "starter"}
            case _:
                continue
        yield {
            "event_id": f"s{number:03}",
            "entity_id": f"a{number:03}",
            "entity_type": "account",
            "event_type": kind,
            "timestamp": _at(random, day),
            "metadata": json.dumps(terms),
        }


def _at(random: Random, day: int) -> str:
    return str(datetime.combine(FIRST + timedelta(day), time(random.randint(6, 22))))
