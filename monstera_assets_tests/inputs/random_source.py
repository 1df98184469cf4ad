"""A randomly generated source that covers all situations in the framework.

The same seed produces the same files.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from random import Random
from typing import Any

from monstera_assets_tests.inputs.odd_source import SHARE_WITH_ALIASES

FIRST = date(2024, 1, 1)
DAYS = 150

_CATALOG = (
    # node, tier, parent, is_active, qualifying, activating
    ("work", "family", "", True, "", ""),
    (
        "video",
        "product",
        "work",
        True,
        "video_created|video_edited|video_published",
        "video_created",
    ),
    ("captions", "feature", "video", True, "video_edited", ""),
    ("translation", "sub_feature", "captions", True, "video_edited", ""),
    ("canvas", "product", "work", True, "design_created|design_edited", "design_created"),
    ("layers", "feature", "canvas", True, "design_edited", ""),
    ("spaces", "product", "work", True, "project_shared|member_invited", "project_shared"),
    ("fax", "product", "work", False, "fax_sent", "fax_sent"),
)
_TYPES = {
    "video": ("video_created", "video_edited", "video_published", "page_viewed"),
    "captions": ("video_edited",),
    "translation": ("video_edited", "page_viewed"),
    "canvas": ("design_created", "design_edited", "page_viewed"),
    "layers": ("design_edited",),
    "spaces": ("project_shared", "member_invited", "page_viewed"),
    "fax": ("fax_sent",),
    "": ("user_logged_in",),
}
_WORKFLOWS = (
    ("publishing", "video", 1, "video_created"),
    ("publishing", "video", 2, "video_edited"),
    ("publishing", "video", 3, "video_published"),
    ("handoff", "canvas", 1, "design_created"),
    ("handoff", "spaces", 2, "project_shared"),
    ("twice", "captions", 10, "video_edited"),
    ("twice", "video", 20, "video_edited"),
    ("once", "fax", 1, "fax_sent"),
)
_TIERS = ("starter", "professional", "enterprise")
_LOCATIONS = ("web_app", "mobile_app", "desktop_app", "api")


def write_random_source(
    folder: Path,
    seed: int,
    users: int = 44,
    accounts: int = 24,
    *,
    aliases: bool = SHARE_WITH_ALIASES > 0,
) -> None:
    """Write a source for 150 days from 2024-01-01.

    With aliases and without, a source has the same events, facts, and values of users: with aliases,
    some of them are under other ids, and rows that change nothing are added.

    Args:
        folder: target folder; must not exist.
        seed: seed of the random numbers.
        users: number of users.
        accounts: number of accounts.
        aliases: whether some users have aliases.
    """
    random = Random(seed)  # noqa: S311  # not for secrets
    folder.mkdir(parents=True)
    companies = [_account(random, number) for number in range(accounts)]
    people = [_user(random, number, companies) for number in range(users)]
    billing = [event for account in companies for event in _billing(random, account)]
    deleted = {
        user["user_id"]: _later(random, user["user_created_at"], 20, DAYS)
        for user in people
        if random.random() < 0.1
    }
    deletions = [
        {"entity_id": user, "entity_type": "user", "event_type": "user_deleted", "timestamp": at}
        for user, at in deleted.items()
        if at is not None
    ]
    events = _numbered("e", _uses(random, people, deleted))
    facts = _numbered("s", [*billing, *deletions])
    if aliases:
        drawn = _Aliases(Random(f"aliases of {seed}"), people)  # noqa: S311
        people, events = drawn.people(), drawn.events(events)
        facts += _numbered("m", drawn.deletions())
        _write(folder / "user_aliases.csv", drawn.rows())
    _write(folder / "product_catalog.csv", _catalog_rows())
    _write(folder / "accounts.csv", companies)
    _write(folder / "users.csv", people)
    _write(folder / "events.csv", events)
    _write(folder / "subscription_events.csv", facts)
    _write(
        folder / "workflows.csv",
        (
            {
                "workflow_id": flow,
                "workflow_name": flow.title(),
                "product_id": node,
                "step_number": step,
                "event_type": kind,
            }
            for flow, node, step, kind in _WORKFLOWS
        ),
    )


def _catalog_rows() -> Iterable[Mapping[str, Any]]:
    return (
        {
            "product_id": node,
            "product_name": node.title(),
            "product_family_id": "work",
            "tier": tier,
            "parent_product_id": parent,
            "is_active": is_active,
            "created_at": "2023-01-01 00:00:00",
            "product_owner": "team",
            "activation_event_types": activating,
            "qualifying_event_types": qualifying,
            "active_days": 14 if node == "canvas" else "",
            "dormant_days": 28 if node == "canvas" else "",
        }
        for node, tier, parent, is_active, qualifying, activating in _CATALOG
    )


def _account(random: Random, number: int) -> dict[str, Any]:
    created = _moment(random, random.choice([0, 0, 0, random.randint(0, 90)]))
    paid = random.random() < 0.3
    return {
        "account_id": f"acc_{number:02}",
        "account_name": f"Account {number}",
        "subscription_tier": random.choice(_TIERS) if paid else "trial",
        "total_seats": random.randint(1, 8),
        "account_created_at": created,
        "first_paid_at": created + timedelta(days=random.randint(0, 20)) if paid else None,
        "contract_renewal_date": FIRST + timedelta(days=random.randint(60, 400)) if paid else None,
        "monthly_recurring_revenue": random.choice([0, 49.5, 120, 300]) if paid else 0,
        "is_trial": not paid,
    }


def _user(random: Random, number: int, companies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    company = random.choice(companies)
    earliest = (company["account_created_at"].date() - FIRST).days + 1
    return {
        "user_id": f"u{number:03}",
        "email": f"u{number:03}@example.invalid",
        "account_id": company["account_id"],
        "user_created_at": _moment(random, random.randint(earliest, DAYS - 1)),
        "country": random.choice(["DE", "FR", "UK"]),
        "plan_type": random.choice(["free", "paid"]),
        "acquisition_source": random.choice(["organic", "invitation", "partner"]),
    }


def _uses(
    random: Random,
    people: Sequence[Mapping[str, Any]],
    deleted: Mapping[str, datetime | None],
) -> Iterable[dict[str, Any]]:
    activating = {kinds.split("|")[0] for *_, kinds in _CATALOG if kinds}
    for user in people:
        share = random.choice([0, 0.02, 0.1, 0.3, 0.8])
        nodes = random.choice([tuple(_TYPES), tuple(_TYPES), ("video", "captions"), ("canvas",)])
        pauses = random.choice([(0, 0), (20, 60), (30, 100), (45, 80)])
        first = (user["user_created_at"].date() - FIRST).days
        for day in range(first, DAYS):
            if pauses[0] <= day - first < pauses[1] or random.random() >= share:
                continue
            for _ in range(random.choice([1, 1, 2, 4])):
                at = max(_moment(random, day), user["user_created_at"])
                gone = deleted.get(user["user_id"])
                if gone is not None and at.date() >= gone.date():
                    continue
                node = random.choice(nodes)
                kind = random.choice(_TYPES[node])
                qualifies = kind not in ("page_viewed", "user_logged_in")
                project = random.choice([None, "p1", f"p{day // 10}"])
                target = random.choice([None, "u001", "u002", "u003"])
                entity = random.choice(["user"] * 13 + ["admin"])
                session = f"s{user['user_id']}{day}"
                yield {
                    "entity_id": user["user_id"],
                    "entity_type": entity,
                    "event_type": kind,
                    "timestamp": at,
                    "location": random.choice(_LOCATIONS),
                    "session_id": random.choice([None, session]),
                    "product_id": node or None,
                    "is_qualifying_event": qualifies,
                    "is_activation_event": qualifies and kind in activating and node in _PRODUCTS,
                    "metadata": json.dumps({"project_id": project, "target_user_id": target}),
                }


_PRODUCTS = frozenset(node for node, tier, *_ in _CATALOG if tier == "product")


def _billing(random: Random, account: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    day = (account["account_created_at"].date() - FIRST).days
    # A generator of its own, so that the other values do not depend on it.
    own = Random(account["account_id"])  # noqa: S311
    choices: list[list[str | None]] = [[None], ["A"], ["A", "B"], ["A", "B", None]]
    names = own.choice(choices)
    kinds = [
        "subscription_started",
        "subscription_renewed",
        "subscription_cancelled",
        "subscription_paused",
        "subscription_resumed",
        "seats_changed",
        "tier_changed",
        *["payment_failed"] * 4,
        *["payment_recovered"] * 2,
    ]
    for number in range(random.randint(0, 16)):
        day += random.choice([0, 1, 1, 3, 7, 20, 31])
        if day >= DAYS:
            return
        kind = "subscription_started" if number in (0, 9) else random.choice(kinds)
        at = max(_moment(random, day), account["account_created_at"])
        yield {
            "entity_id": account["account_id"],
            "entity_type": "account",
            "event_type": kind,
            "timestamp": at,
            "metadata": json.dumps(
                {
                    **_terms(random, kind, day),
                    "subscription_id": own.choice(names),
                    "currency": own.choice([None, None, "EUR"]),
                }
            ),
        }


def _terms(random: Random, kind: str, day: int) -> dict[str, Any]:
    if kind in ("subscription_started", "subscription_renewed", "seats_changed", "tier_changed"):
        renewal = FIRST + timedelta(days=day + random.choice([10, 30, 90]))
        terms = {
            "subscription_tier": random.choice(_TIERS),
            "total_seats": random.randint(1, 8),
            "monthly_recurring_revenue": random.choice([0, 49.5, 120.0, 300.0, 999.99]),
            "contract_renewal_date": renewal.isoformat(),
        }
        return {name: value for name, value in terms.items() if random.random() < 0.8}
    if kind == "subscription_cancelled":
        return {
            "effective_date": (FIRST + timedelta(days=day + random.choice([0, 10]))).isoformat()
        }
    if kind == "subscription_paused":
        return {"pause_reason": random.choice(["seasonal", "voluntary_pause"])}
    return {}


def _moment(random: Random, day: int) -> datetime:
    hours = random.choice([time(0, 0), time(9, 30), time(15, 45, 30), time(23, 59, 59)])
    return datetime.combine(FIRST + timedelta(days=day), hours)


def _later(random: Random, start: datetime, least: int, last: int) -> datetime | None:
    day = (start.date() - FIRST).days + random.randint(least, least + 60)
    return _moment(random, day) if day < last else None


class _Aliases:
    """Aliases of users whose rows and events are drawn without them.

    Half of the users have one to three aliases, in a chain or side by side. Three others are in a cycle
    of aliases or lead into it.
    """

    def __init__(self, random: Random, people: Sequence[Mapping[str, Any]]) -> None:
        self.random, self.rows_of_people = random, people
        *names, first, second, third = [user["user_id"] for user in people]
        self.in_cycle = ((first, second), (second, first), (third, first))
        self.of_user: dict[str, list[str]] = {
            user: random.sample(
                (user.upper(), f" {user}", f"anonymous-{user}", f"{user}.old"), random.randint(1, 3)
            )
            for user in names
            if random.random() < 0.5
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of user_aliases, with some that are repeated and superseded."""
        pairs = list(self.in_cycle)
        for user, aliases in self.of_user.items():
            for number, alias in enumerate(aliases):
                pairs.append((alias, self.random.choice((user, *aliases[:number]))))
        self.random.shuffle(pairs)
        earlier = [
            (alias, self.random.choice((user, user, "u000", alias)))
            for alias, user in pairs
            if self.random.random() < 0.3
        ]
        return [{"alias_id": alias, "user_id": user} for alias, user in (*earlier, *pairs)]

    def people(self) -> list[dict[str, Any]]:
        """Return rows of users, some of them under aliases, with the same values and creations."""
        own: list[dict[str, Any]] = []
        under_alias: list[dict[str, Any]] = []
        for user in self.rows_of_people:
            first, *others = self.of_user.get(user["user_id"], [None])
            form = self.random.choice(("only own", "own first", "alias first", "only alias"))
            if first is None or form == "only own":
                own.append(dict(user))
                continue
            if form == "only alias":
                under_alias.append({**user, "user_id": first})
            elif form == "own first":
                own.append(dict(user))
                others = [first, *others]
            else:
                own.append(self._later(user))
                under_alias.append({**user, "user_id": first, "country": "US"})
            under_alias += [
                {**self._later(user), "user_id": alias, "country": "US"} for alias in others
            ]
        self.random.shuffle(under_alias)
        return [*own, *under_alias]

    def _later(self, user: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row of a user with a later creation."""
        days = timedelta(days=self.random.randint(1, 10))
        return {**user, "user_created_at": user["user_created_at"] + days}

    def events(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return rows of events, some of them with aliases as entities and targets."""
        found = []
        for row in rows:
            metadata = json.loads(row["metadata"])
            target = self._any_id(metadata["target_user_id"])
            is_user = row["entity_type"] == "user"
            found.append(
                {
                    **row,
                    "entity_id": self._any_id(row["entity_id"]) if is_user else row["entity_id"],
                    "metadata": json.dumps({**metadata, "target_user_id": target}),
                }
            )
        return found

    def deletions(self) -> list[dict[str, Any]]:
        """Return deletions under aliases, which change nothing."""
        return [
            {
                "entity_id": self.random.choice(self.of_user[user["user_id"]]),
                "entity_type": "user",
                "event_type": "user_deleted",
                "timestamp": user["user_created_at"],
            }
            for user in self.rows_of_people
            if user["user_id"] in self.of_user and self.random.random() < 0.3
        ]

    def _any_id(self, user: str | None) -> str | None:
        aliases = self.of_user.get(user, []) if user is not None else []
        return self.random.choice([user, *aliases])


def _numbered(prefix: str, events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    empty = {
        "location": "web_app",
        "session_id": None,
        "product_id": None,
        "is_qualifying_event": False,
        "is_activation_event": False,
        "metadata": None,
    }
    return [
        {"event_id": f"{prefix}{number:05}", **empty, **event}
        for number, event in enumerate(events)
    ]


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    every = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(every[0]))
        writer.writeheader()
        writer.writerows({name: _text(value) for name, value in row.items()} for row in every)


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat(" ") if isinstance(value, datetime) else value
