"""A simulated company, and the files that its exporter writes each morning.

The company is simulated day by day in plain Python from a seed. It keeps the truth, with the time of
every change, and the exporter shows only what the company knows at the time of the export:

* `events/arrived_DATE.csv`: the events that arrived on a day. Most events happened on that day. Some
  are late, and some arrive again with other content, a later `received_at` and perhaps another day.
* `subscription_events.csv`: all facts that arrived before the morning's day.
* `users.csv`, `accounts.csv`, `product_catalog.csv`, `workflows.csv` and `user_aliases.csv`: all rows
  as they are at the time of the export. They overwrite the previous rows.

Days are counted from 0, the first day with events. Mornings are counted from 1. On morning 1, the
exporter delivers the first `Plan.history` days, and on each later morning, the previous day.
"""

from __future__ import annotations

import csv
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from random import Random

Row = dict[str, str]

EXPORT_AT = time(4)
"""The time at which the exporter reads the company's database and delivers the files."""
MAX_DAYS_LATE = 5
MAX_DAYS_CORRECTED_LATER = 4
RENEWS_AFTER = timedelta(days=91)
DUNNING_DAYS = 30

PRICES = {"trial": 0, "starter": 12, "professional": 20, "enterprise": 30}
"""Monthly price of a seat by tier."""
COUNTRIES = ("DE", "FR", "UK", "US", "BR")
SOURCES = ("organic", "paid_search", "referral", "invitation")
LOCATIONS = ("web_app", "web_app", "mobile_app", "desktop_app", "api")
WEEKDAYS = (1.0, 1.05, 1.0, 0.95, 0.9, 0.3, 0.2)
"""Activity by weekday, starting on Monday."""

NOTES, NOTE_CREATED = "notes", "note_created"
"""The catalog node that is added later, and the event type that it lists."""
NOTES_BEFORE_NODE_DAYS = 15
"""Days with notes before the node is added."""
SURVEYS = "surveys"
"""The product whose windows change later."""
ACTIVE_DAYS, ACTIVE_DAYS_LATER = "60", "45"

_CATALOG = (
    # node, tier, parent, activating, qualifying
    ("creation", "family", "", "", ""),
    (
        "studio",
        "product",
        "creation",
        "video_created",
        "video_created|video_edited|video_published|captions_added",
    ),
    ("captions", "feature", "studio", "", "captions_added"),
    ("translation", "sub_feature", "captions", "", "captions_added"),
    ("canvas", "product", "creation", "design_created", "design_created|design_edited"),
    ("templates", "feature", "canvas", "", "design_edited"),
    ("teamwork", "family", "", "", ""),
    (
        "spaces",
        "product",
        "teamwork",
        "project_created",
        "project_created|project_shared|comment_added",
    ),
    ("comments", "feature", "spaces", "", "comment_added"),
    ("insight", "family", "", "", ""),
    ("boards", "product", "insight", "board_created", "board_created|board_edited"),
    ("reports", "feature", "boards", "", "board_edited"),
    (SURVEYS, "product", "insight", "survey_created", "survey_created|survey_published"),
)
_ACTIONS: Mapping[str, Sequence[tuple[str, str]]] = {
    # The nodes and types of a product's events, the first of which starts something new.
    "studio": (
        ("studio", "video_created"),
        ("studio", "video_edited"),
        ("studio", "video_published"),
        ("captions", "captions_added"),
        ("translation", "captions_added"),
        ("studio", "page_viewed"),
    ),
    "canvas": (
        ("canvas", "design_created"),
        ("canvas", "design_edited"),
        ("templates", "design_edited"),
    ),
    "spaces": (
        ("spaces", "project_created"),
        ("spaces", "project_shared"),
        ("comments", "comment_added"),
        ("spaces", "page_viewed"),
    ),
    "boards": (
        ("boards", "board_created"),
        ("boards", "board_edited"),
        ("reports", "board_edited"),
    ),
    SURVEYS: ((SURVEYS, "survey_created"), (SURVEYS, "survey_published")),
}
_WORKFLOWS = (
    ("publishing", "Publishing", "studio", 1, "video_created"),
    ("publishing", "Publishing", "studio", 2, "video_edited"),
    ("publishing", "Publishing", "studio", 3, "video_published"),
    ("handoff", "Handoff", "canvas", 1, "design_created"),
    ("handoff", "Handoff", "spaces", 2, "project_shared"),
)

COLUMNS: Mapping[str, Sequence[str]] = {
    "events": (
        *("event_id", "entity_id", "entity_type", "event_type", "timestamp", "location"),
        *("session_id", "product_id", "metadata", "received_at"),
    ),
    "subscription_events": (
        *("event_id", "entity_id", "entity_type", "event_type", "timestamp", "location"),
        *("metadata", "received_at"),
    ),
    "users": (
        *("user_id", "email", "account_id", "user_created_at", "country", "plan_type"),
        "acquisition_source",
    ),
    "accounts": (
        *("account_id", "account_name", "subscription_tier", "total_seats", "account_created_at"),
        *("first_paid_at", "contract_renewal_date", "monthly_recurring_revenue", "is_trial"),
    ),
    "product_catalog": (
        *("product_id", "product_name", "product_family_id", "tier", "parent_product_id"),
        *("is_active", "created_at", "product_owner", "activation_event_types"),
        *("qualifying_event_types", "active_days", "dormant_days"),
    ),
    "workflows": ("workflow_id", "workflow_name", "product_id", "step_number", "event_type"),
    "user_aliases": ("alias_id", "user_id"),
}


@dataclass(frozen=True)
class Plan:
    """The size of a company, and what happens on which morning.

    A change "of a morning" happens on the day that this morning delivers, unless stated otherwise.

    Attributes:
        first: the first day with events.
        history: days that the first morning delivers.
        mornings: number of mornings.
        users: users at the start, including those who use the product for a short time only.
        short_users: users among them who stop within the first quarter of the history.
        signups: mean number of signups per day.
        accounts: paying accounts at the start.
        accounts_without_facts: how many of them are described by their rows alone.
        trials: accounts that start a trial, of which about two thirds convert.
        seat_changes: probability that the number of an account's seats changes on a day.
        late, corrected: shares of events. If events are late, some facts about payments are, too.
        outages: mornings without a delivery.
        delayed: minutes after `EXPORT_AT` by which a morning's delivery is delayed.
        twice: mornings on which the events of the day are delivered in two files.
        without_events: mornings whose day has no events at all.
        quiet: mornings whose day has few events, as on a holiday.
        campaign: mornings of the first and last day of the first of two weeks with many signups, in the
            second of which few users activate, or None.
        card_failures: morning of the day on which the payments of all accounts fail, or None.
        win_back: morning of the first day of the week in which many churned users come back, or None.
        merges: mornings on which an alias appears, by the kind of merge.
        deletions: mornings on which a user is deleted.
        node_added, node_renamed, node_owned: mornings on which the catalog shows the node `NOTES`, its
            new name and its new owner.
        windows_changed: morning on which the catalog shows other windows for `SURVEYS`.
        command: morning on which someone runs `monstera run --changed`.
    """

    first: date = date(2025, 1, 6)
    history: int = 100
    mornings: int = 60
    users: int = 150
    short_users: int = 55
    signups: float = 0.2
    accounts: int = 38
    accounts_without_facts: int = 4
    trials: int = 8
    seat_changes: float = 0.006
    late: float = 0.03
    corrected: float = 0.002
    outages: Sequence[int] = ()
    delayed: Mapping[int, int] = field(default_factory=dict)
    twice: Sequence[int] = ()
    without_events: Sequence[int] = ()
    quiet: Sequence[int] = ()
    campaign: tuple[int, int] | None = None
    card_failures: int | None = None
    win_back: int | None = None
    merges: Mapping[int, str] = field(default_factory=dict)
    deletions: Sequence[int] = ()
    node_added: int | None = None
    node_renamed: int | None = None
    node_owned: int | None = None
    windows_changed: int | None = None
    command: int | None = None

    def delivers(self, morning: int) -> int:
        """Return the day before a morning, which is the last day that the morning delivers."""
        return self.history + morning - 2

    def date_of(self, day: int) -> date:
        """Return the date of a day."""
        return self.first + timedelta(days=day)

    @property
    def last_day(self) -> int:
        """The day before the last morning."""
        return self.delivers(self.mornings)


class Timeline:
    """The rows of one entity, each with the time from which it is in the company's database."""

    def __init__(self) -> None:
        self._times: list[datetime] = []
        self._rows: list[Row | None] = []

    def set(self, at: datetime, row: Row | None) -> None:
        """Overwrite the row at a time, or remove it."""
        assert not self._times or at >= self._times[-1], "Changes must be in order."
        self._times.append(at)
        self._rows.append(None if row is None else dict(row))

    @property
    def first(self) -> Row | None:
        """The first row."""
        return self._rows[0] if self._rows else None

    @property
    def changed_at(self) -> datetime:
        """The time of the last change so far."""
        return self._times[-1]

    def at(self, moment: datetime) -> Row | None:
        """Return the row that is in the database at a time."""
        position = bisect_right(self._times, moment)
        return self._rows[position - 1] if position else None


@dataclass(frozen=True)
class Arrival:
    """An event or a fact as the exporter got it: the day on which it happened and its arrival."""

    day: int
    arrived: int
    row: Row


@dataclass
class Account:
    """The state of an account during the simulation."""

    account_id: str
    created: datetime
    has_facts: bool
    tier: str = "trial"
    seats: int = 10
    first_paid: datetime | None = None
    renewal: date | None = None
    is_paying: bool = False
    is_paused: bool = False
    failing_since: int | None = None
    ends: int | None = None
    later: list[tuple[int, Callable[[int], None]]] = field(default_factory=list)
    """What happens to the account on later days."""

    @property
    def revenue(self) -> int:
        """The monthly revenue while the account pays."""
        return self.seats * PRICES[self.tier]

    @property
    def is_undisturbed(self) -> bool:
        """Whether the account pays and nothing else is going on."""
        disturbed = (self.failing_since is not None, self.ends is not None, self.is_paused)
        return self.is_paying and not any(disturbed)

    @property
    def row(self) -> Row:
        """The row in the company's database."""
        return {
            "account_id": self.account_id,
            "account_name": self.account_id.replace("_", " ").title(),
            "subscription_tier": self.tier,
            "total_seats": str(self.seats),
            "account_created_at": _text(self.created),
            "first_paid_at": _text(self.first_paid) if self.first_paid else "",
            "contract_renewal_date": str(self.renewal) if self.renewal else "",
            "monthly_recurring_revenue": f"{self.revenue:.2f}",
            "is_trial": str(self.first_paid is None).lower(),
        }


@dataclass
class User:
    """The state of a user during the simulation.

    Attributes:
        spans: the first and last day of each stretch of days on which the user works.
        rate: probability of a session on a normal working day.
        products: the products that the user works in.
        project: number of the project that the user works on.
        is_passive: whether the user only looks around.
    """

    row: Row
    created_day: int
    spans: list[tuple[int, int]]
    rate: float
    products: Sequence[str]
    project: int = 0
    is_passive: bool = False
    deleted_on: int | None = None

    @property
    def user_id(self) -> str:
        return self.row["user_id"]

    @property
    def is_anonymous(self) -> bool:
        return self.user_id.startswith("anon")

    def works_on(self, day: int) -> bool:
        return any(first <= day <= last for first, last in self.spans)


@dataclass(frozen=True)
class Delivery:
    """What the exporter wrote on a morning.

    Attributes:
        arrival_days: the days whose arrivals are in new files.
        earliest: the first day that the delivery can change, unless a command is needed for it.
    """

    morning: int
    arrival_days: Sequence[int]
    earliest: date


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


class Company:
    """The truth of each day, and the exporter."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan, self.random = plan, Random(seed)  # noqa: S311  # not for secrets
        # With its own random numbers, the way events arrive does not change what happens.
        self._exporter = Random(seed + 1)  # noqa: S311
        self.users: dict[str, Timeline] = {}
        self.accounts: dict[str, Timeline] = {}
        self.nodes: dict[str, Timeline] = {}
        self.aliases: list[tuple[datetime, str, str]] = []
        self.events: list[Arrival] = []
        self.facts: list[Arrival] = []
        self._people: list[User] = []
        self._companies: dict[str, Account] = {}
        self._has_named_note = False
        self._planned: dict[int, list[Callable[[int], None]]] = {}
        self._numbers = {"event": 0, "user": 0, "anon": 0, "account": 0, "fact": 0, "session": 0}
        self._simulate()

    # ------------------------------------------------------------ the truth

    def date_of(self, day: int) -> date:
        """Return the date of a day."""
        return self.plan.date_of(day)

    def morning_date(self, morning: int) -> date:
        """Return the date of a morning."""
        return self.date_of(self.plan.delivers(morning) + 1)

    def delivered_at(self, morning: int) -> datetime | None:
        """Return the time of a morning's delivery in UTC, or None if there is an outage."""
        if morning in self.plan.outages:
            return None
        delay = timedelta(minutes=self.plan.delayed.get(morning, 0))
        return datetime.combine(self.morning_date(morning), EXPORT_AT) + delay

    def rows(self, name: str, morning: int) -> list[Row]:
        """Return the rows of an input without events as they are at a morning's export."""
        moment = datetime.combine(self.morning_date(morning), EXPORT_AT)
        if name == "user_aliases":
            return [
                {"alias_id": alias, "user_id": user}
                for at, alias, user in self.aliases
                if at <= moment
            ]
        if name == "workflows":
            return [dict(zip(COLUMNS[name], map(str, step), strict=True)) for step in _WORKFLOWS]
        if name == "subscription_events":
            last = self.plan.delivers(morning)
            return [fact.row for fact in self.facts if fact.arrived <= last]
        timelines = {"users": self.users, "accounts": self.accounts, "product_catalog": self.nodes}
        found = (timeline.at(moment) for timeline in timelines[name].values())
        return [row for row in found if row is not None]

    def arrivals(self, day: int) -> list[Row]:
        """Return the event rows that arrived on a day."""
        return [event.row for event in self.events if event.arrived == day]

    def accepted_events(self, morning: int) -> dict[str, Row]:
        """Return the latest row of each event that arrived before a morning, by id.

        The entity is the user that the aliases known on that morning lead to.
        """
        last = self.plan.delivers(morning)
        merged = self.merged(morning)
        latest: dict[str, Row] = {}
        for event in self.events:
            if event.arrived > last:
                continue
            before = latest.get(event.row["event_id"])
            if before is None or before["received_at"] <= event.row["received_at"]:
                latest[event.row["event_id"]] = event.row
        return {
            event_id: {**row, "entity_id": merged.get(row["entity_id"], row["entity_id"])}
            for event_id, row in latest.items()
        }

    def merged(self, morning: int) -> dict[str, str]:
        """Return the user at the end of the chain of each alias that is known on a morning."""
        return self._merged_at(datetime.combine(self.morning_date(morning), EXPORT_AT))

    def _merged_at(self, moment: datetime) -> dict[str, str]:
        known = {alias: user for at, alias, user in self.aliases if at <= moment}
        ends = {}
        for alias in known:
            user = alias
            while user in known:
                user = known[user]
            ends[alias] = user
        return ends

    def first_day_of_note(self) -> int | None:
        """Return the first day with an event of the type that the added node lists."""
        days = [e.day for e in self.events if e.row["event_type"] == NOTE_CREATED]
        return min(days, default=None)

    # ------------------------------------------------------------ the exporter

    def deliver(self, morning: int, folder: Path) -> Delivery | None:
        """Write the files of a morning to a folder that may contain earlier deliveries.

        Returns:
            The delivery, or None if there is an outage. An outage writes nothing.
        """
        if morning in self.plan.outages:
            return None
        arrived = folder / "events"
        arrived.mkdir(parents=True, exist_ok=True)
        new_days = []
        for day in range(self.plan.delivers(morning) + 1):
            path = arrived / f"arrived_{self.date_of(day)}.csv"
            if path.exists():
                continue
            new_days.append(day)
            _write(path, COLUMNS["events"], self.arrivals(day))
            if day in map(self.plan.delivers, self.plan.twice):
                again = path.with_name(f"arrived_{self.date_of(day)}_again.csv")
                _write(again, COLUMNS["events"], self.arrivals(day))
        for name in COLUMNS:
            if name != "events":
                _write(folder / f"{name}.csv", COLUMNS[name], self.rows(name, morning))
        earliest = self.date_of(self._earliest(morning, new_days))
        return Delivery(morning, new_days, earliest)

    def _earliest(self, morning: int, new_days: Sequence[int]) -> int:
        """Return the first day that a delivery can change without the command."""
        days, new = list(new_days), set(new_days)
        ids = {event.row["event_id"] for event in self.events if event.arrived in new}
        days += [event.day for event in self.events if event.row["event_id"] in ids]
        days += [fact.day for fact in self.facts if fact.arrived in new]
        since = datetime.combine(self.date_of(min(new)), EXPORT_AT)
        moment = datetime.combine(self.morning_date(morning), EXPORT_AT)
        added = {
            user_id
            for user_id, timeline in self.users.items()
            if timeline.at(moment) is not None and timeline.at(since) is None
        }
        before, now = self._merged_at(since), self._merged_at(moment)
        moved = {a for a, user in now.items() if user != before.get(a) or user in added}
        for user_id in moved | added:
            row = self.users[user_id].first
            assert row is not None
            created = date.fromisoformat(row["user_created_at"][:10])
            days.append((created - self.plan.first).days)
        # Stored events do not record which alias they named before it was corrected.
        former = {before[alias] for alias in moved & before.keys()}
        # A deletion determines which of the user's events count.
        deleted = {
            fact.row["entity_id"]
            for fact in self.facts
            if fact.arrived in new and fact.row["event_type"] == "user_deleted"
        }
        days += [
            event.day
            for event in self.events
            if event.row["entity_id"] in moved | former | deleted
            or any(alias in event.row["metadata"] for alias in moved)
        ]
        nodes = (self.plan.node_added, self.plan.node_renamed, self.plan.node_owned)
        if morning in nodes:
            days += [self.first_day_of_note() or 0]
        if morning == self.plan.windows_changed and self.plan.command is None:
            days.append(0)
        return max(min(days), 0)

    # ------------------------------------------------------------ the simulation

    def _simulate(self) -> None:
        plan = self.plan
        self._build_catalog()
        for number in range(plan.accounts):
            self._found_account(has_facts=number >= plan.accounts_without_facts)
        for number in range(plan.users):
            self._welcome_early_user(is_short=number < plan.short_users)
        self._plan_incidents()
        for day in range(plan.last_day + 2):
            for happen in self._planned.pop(day, []):
                happen(day)
            for account in list(self._companies.values()):
                self._bill(account, day)
            self._change_people(day)
            self._sign_up(day)
            self._work(day)
        self.facts.sort(key=lambda fact: (fact.arrived, fact.row["event_id"]))

    def _on(self, day: int, happen: Callable[[int], None]) -> None:
        self._planned.setdefault(max(day, 0), []).append(happen)

    def _next(self, what: str) -> int:
        self._numbers[what] += 1
        return self._numbers[what]

    def _moment(self, day: int, first_hour: int = 7, last_hour: int = 19) -> datetime:
        seconds = self.random.randint(first_hour * 3600, last_hour * 3600)
        return datetime.combine(self.date_of(day), time()) + timedelta(seconds=seconds)

    def _build_catalog(self) -> None:
        start = datetime.combine(date(2024, 1, 1), time())
        for node, tier, parent, activating, qualifying in _CATALOG:
            is_surveys = node == SURVEYS
            row = _node(node, tier, parent, start, activating, qualifying)
            row["active_days"] = ACTIVE_DAYS if is_surveys else ""
            row["dormant_days"] = "120" if is_surveys else ""
            self.nodes.setdefault(node, Timeline()).set(start, row)
        plan, notes = self.plan, Timeline()
        if plan.node_added is not None:
            created = datetime.combine(self.date_of(plan.delivers(plan.node_added)), time(6))
            row = _node(NOTES, "product", "teamwork", created, NOTE_CREATED, NOTE_CREATED)
            notes.set(created, row)
            self.nodes[NOTES] = notes
            for morning, column, value in (
                (plan.node_renamed, "product_name", "Smart Notes"),
                (plan.node_owned, "product_owner", "team:notes"),
            ):
                if morning is not None:
                    row = {**row, column: value}
                    notes.set(datetime.combine(self.morning_date(morning), time(1)), row)
        if plan.windows_changed is not None:
            surveys = self.nodes[SURVEYS]
            changed = surveys.at(start)
            assert changed is not None
            at = datetime.combine(self.morning_date(plan.windows_changed), time(1))
            surveys.set(at, {**changed, "active_days": ACTIVE_DAYS_LATER})

    # ------------------------------------------------------------ accounts

    def _found_account(self, *, has_facts: bool) -> None:
        """Add an account that paid before the first day."""
        random = self.random
        created = self._moment(-random.randint(60, 300))
        account = Account(f"acc_{self._next('account'):02}", created, has_facts)
        self._companies[account.account_id] = account
        account.tier = random.choice(("starter", "starter", "professional", "enterprise"))
        account.seats = random.randint(6, 14)
        account.first_paid = created + timedelta(days=random.randint(1, 25))
        account.renewal = self.date_of(random.randint(2, 90))
        account.is_paying = True
        self.accounts[account.account_id] = Timeline()
        self.accounts[account.account_id].set(created, account.row)
        if has_facts:
            day = (account.first_paid.date() - self.plan.first).days
            self._fact(account, "subscription_started", day, account.first_paid, with_terms=True)

    def _start_trial(self, day: int, number: int) -> None:
        """Add an account on trial. Two of three convert, and two of three of these have facts."""
        created = self._moment(day, 7, 9)
        account = Account(f"acc_{self._next('account'):02}", created, has_facts=number % 4 != 0)
        self._companies[account.account_id] = account
        self.accounts[account.account_id] = Timeline()
        self.accounts[account.account_id].set(account.created, account.row)
        for _ in range(self.random.randint(2, 4)):
            self._add_user(day, account.account_id, created=self._moment(day, 10, 19), plan="trial")
        if number % 3 != 2:
            account.later.append(
                (day + self.random.randint(6, 24), lambda on: self._pay(account, on))
            )

    def _pay(self, account: Account, day: int) -> None:
        """Start a subscription: a trial converts with fewer seats, or an account comes back."""
        at = self._moment(day)
        if account.first_paid is None:
            account.first_paid = at
            account.seats = min(self._members(account) + 2, 9)
            account.tier = self.random.choice(("starter", "professional"))
            for user in self._known(day):
                if user.row["account_id"] == account.account_id and self.random.random() < 0.6:
                    self._change_user(user, at, plan_type=account.tier)
        account.is_paying, account.ends = True, None
        account.renewal = self.date_of(day) + RENEWS_AFTER
        self._save(account, at)
        if account.has_facts:
            self._fact(account, "subscription_started", day, at, with_terms=True)

    def _members(self, account: Account) -> int:
        return sum(
            user.row["account_id"] == account.account_id and user.deleted_on is None
            for user in self._people
        )

    def _save(self, account: Account, at: datetime) -> None:
        self.accounts[account.account_id].set(at, account.row)

    def _fact(
        self,
        account: Account,
        kind: str,
        day: int,
        at: datetime,
        *,
        with_terms: bool = False,
        days_late: int = 0,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        values = dict(metadata or {})
        if with_terms:
            values |= {
                "subscription_tier": account.tier,
                "total_seats": account.seats,
                "monthly_recurring_revenue": account.revenue,
                "contract_renewal_date": str(account.renewal),
            }
        self._add_fact(account.account_id, "account", kind, day, at, values, days_late)

    def _add_fact(
        self,
        entity: str,
        entity_type: str,
        kind: str,
        day: int,
        at: datetime,
        values: Mapping[str, object],
        days_late: int = 0,
    ) -> None:
        row = {
            "event_id": f"fact_{self._next('fact'):05}",
            "entity_id": entity,
            "entity_type": entity_type,
            "event_type": kind,
            "timestamp": _text(at),
            "location": "api",
            "metadata": json.dumps(values) if values else "",
            "received_at": _text(at + timedelta(days=days_late, minutes=1)),
        }
        self.facts.append(Arrival(day, max(day, 0) + days_late, row))

    def _bill(self, account: Account, day: int) -> None:
        """Let a day pass for an account."""
        random = self.random
        due = [happen for on, happen in account.later if on == day]
        account.later = [(on, happen) for on, happen in account.later if on != day]
        for happen in due:
            happen(day)
        if not account.is_paying:
            return
        if account.ends is not None and day > account.ends:
            self._lapse(account, day)
            return
        if due or not account.is_undisturbed:
            return
        if account.renewal == self.date_of(day):
            account.renewal += RENEWS_AFTER
            at = self._moment(day, 5, 7)
            self._save(account, at)
            if account.has_facts:
                self._fact(account, "subscription_renewed", day, at, with_terms=True)
            return
        if random.random() < self.plan.seat_changes or account.seats < self._members(account) + 2:
            least = self._members(account) + 3
            account.seats = max(least, account.seats + random.choice((-3, -2, -1, 1, 2, 3)))
            at = self._moment(day)
            self._save(account, at)
            if account.has_facts:
                self._fact(account, "seats_changed", day, at, with_terms=True)
        elif random.random() < 0.002:
            account.tier = random.choice([t for t in PRICES if t not in ("trial", account.tier)])
            at = self._moment(day)
            self._save(account, at)
            if account.has_facts:
                self._fact(account, "tier_changed", day, at, with_terms=True)
        elif account.has_facts:
            self._disturb(account, day)

    def _disturb(self, account: Account, day: int) -> None:
        """Now and then, let a payment fail, or pause or cancel the subscription."""
        random, chance = self.random, self.random.random()
        if chance < 0.0015:
            self._fail_payment(account, day, recovers_after=random.randint(1, 10))
        elif chance < 0.0018:
            self._fail_payment(account, day, recovers_after=None)
        elif chance < 0.0024:
            self._fact(
                account,
                "subscription_paused",
                day,
                self._moment(day),
                metadata={"reason": "seasonal"},
            )
            account.is_paused = True
            account.later.append(
                (day + random.randint(8, 20), lambda on: self._resume(account, on))
            )
        elif chance < 0.0032:
            assert account.renewal is not None
            ends = day + random.randint(5, 25)
            if self.date_of(ends) < account.renewal:
                account.ends = ends
                self._fact(
                    account,
                    "subscription_cancelled",
                    day,
                    self._moment(day),
                    metadata={"effective_date": str(self.date_of(ends))},
                )
                if random.random() < 0.4:
                    back = ends + random.randint(3, 70)
                    account.later.append((back, lambda on: self._pay(account, on)))

    def _resume(self, account: Account, day: int) -> None:
        account.is_paused = False
        at = self._moment(day)
        self._fact(account, "subscription_resumed", day, at)
        if account.renewal is not None and account.renewal <= self.date_of(day):
            account.renewal = self.date_of(day) + RENEWS_AFTER
            self._save(account, at)
            self._fact(
                account, "subscription_renewed", day, at + timedelta(minutes=1), with_terms=True
            )

    def _fail_payment(self, account: Account, day: int, recovers_after: int | None) -> None:
        """Let a payment fail. Facts about payments can arrive late, but carry no terms."""
        late = self._exporter.choice((0, 0, 0, 1, 3)) if self.plan.late else 0
        self._fact(account, "payment_failed", day, self._moment(day), days_late=late)
        account.failing_since = day
        if recovers_after is not None:
            account.later.append((day + recovers_after, lambda on: self._recover(account, on)))
        else:
            account.ends = day + DUNNING_DAYS
            if self.random.random() < 0.6:
                back = day + DUNNING_DAYS + self.random.randint(3, 20)
                account.later.append((back, lambda on: self._pay(account, on)))

    def _recover(self, account: Account, day: int) -> None:
        account.failing_since = None
        at = self._moment(day)
        if account.renewal is not None and account.renewal <= self.date_of(day):
            account.renewal = self.date_of(day) + RENEWS_AFTER
            self._save(account, at)
            values = {"contract_renewal_date": str(account.renewal)}
            self._fact(account, "payment_recovered", day, at, metadata=values)
        else:
            late = self._exporter.choice((0, 0, 0, 2)) if self.plan.late else 0
            self._fact(account, "payment_recovered", day, at, days_late=late)

    def _lapse(self, account: Account, day: int) -> None:
        """End the subscription. Nothing is written: the billing system only stops."""
        account.is_paying, account.failing_since, account.ends = False, None, None
        for user in self._people:
            if user.row["account_id"] == account.account_id and self.random.random() < 0.7:
                user.spans = [(first, min(last, day + 2)) for first, last in user.spans]

    # ------------------------------------------------------------ users

    def _add_user(
        self,
        day: int,
        account: str,
        *,
        created: datetime,
        plan: str = "",
        user_id: str = "",
        spans: Sequence[tuple[int, int]] | None = None,
        is_passive: bool = False,
    ) -> User:
        random = self.random
        user_id = user_id or f"usr_{self._next('user'):03}"
        tier = self._companies[account].tier
        row = {
            "user_id": user_id,
            "email": f"{user_id}@example.invalid",
            "account_id": account,
            "user_created_at": _text(created),
            "country": random.choice(COUNTRIES),
            "plan_type": plan or tier,
            "acquisition_source": random.choice(SOURCES),
        }
        products = random.sample([*_ACTIONS], random.choice((1, 1, 2, 2, 3)))
        rate = random.choice((0.15, 0.3, 0.45, 0.6, 0.85))
        if spans is None:
            spans = self._draw_spans(day)
        user = User(row, day, list(spans), rate, products, is_passive=is_passive)
        self._people.append(user)
        self.users[user_id] = Timeline()
        self.users[user_id].set(created, row)
        return user

    def _draw_spans(self, start: int) -> list[tuple[int, int]]:
        """Draw the days on which a user works: always, until a day, or with a long gap."""
        random, end = self.random, self.plan.last_day + 1
        if random.random() < 0.6:
            return [(start, end)]
        stops = start + random.randint(10, 120)
        if random.random() < 0.5:
            return [(start, stops)]
        return [(start, stops), (stops + random.randint(33, 80), end)]

    def _welcome_early_user(self, *, is_short: bool) -> None:
        """Add a user who signed up before the first day, or on the first days."""
        random = self.random
        account = random.choice(list(self._companies.values()))
        least = (account.created.date() - self.plan.first).days + 1
        day = random.randint(least, 0)
        spans = None
        if is_short:
            spans = [(0, random.randint(2, max(self.plan.history // 4, 3)))]
        user = self._add_user(
            max(day, 0), account.account_id, created=self._moment(day), spans=spans
        )
        user.created_day = day

    def _sign_up(self, day: int) -> None:
        random = self.random
        count = sum(random.random() < self.plan.signups / 4 for _ in range(4))
        for _ in range(count):
            account = random.choice([a for a in self._companies.values() if a.is_paying])
            is_early = random.random() < 0.25
            created = self._moment(day, *((1, 3) if is_early else (7, 19)))
            self._add_user(
                day, account.account_id, created=created, is_passive=random.random() < 0.15
            )

    def _change_user(self, user: User, at: datetime, **values: str) -> None:
        user.row, timeline = {**user.row, **values}, self.users[user.user_id]
        timeline.set(max(at, timeline.changed_at), user.row)

    def _change_people(self, day: int) -> None:
        """Let some users change account, plan or country."""
        random = self.random
        for chance, column in ((0.35, "account_id"), (0.2, "country"), (0.25, "plan_type")):
            if random.random() > chance:
                continue
            user = random.choice(self._known(day - 1))
            choices: Mapping[str, Sequence[str]] = {
                "account_id": [a.account_id for a in self._companies.values() if a.is_paying],
                "country": COUNTRIES,
                "plan_type": ("free", "starter", "professional", "enterprise"),
            }
            values = [v for v in choices[column] if v != user.row[column]]
            hours = (1, 3) if random.random() < 0.1 else (7, 19)
            self._change_user(user, self._moment(day, *hours), **{column: random.choice(values)})

    # ------------------------------------------------------------ incidents

    def _plan_incidents(self) -> None:
        plan = self.plan
        span = range(plan.history // 2, max(plan.last_day - 3, plan.history // 2 + 1))
        for number in range(plan.trials):
            day = span[len(span) * number // plan.trials]
            self._on(day, partial(self._start_trial, number=number))
        if plan.campaign is not None:
            first, last = map(plan.delivers, plan.campaign)
            for day in range(first, last + 8):
                self._on(day, partial(self._campaign, is_second=day > last))
        if plan.card_failures is not None:
            self._on(plan.delivers(plan.card_failures), self._fail_cards)
        if plan.win_back is not None:
            self._on(plan.delivers(plan.win_back), self._win_back)
        for morning, kind in plan.merges.items():
            getattr(self, f"_merge_{kind}")(plan.delivers(morning))
        for morning in plan.deletions:
            keeps_row = self.random.random() < 0.5
            self._on(plan.delivers(morning), partial(self._delete_user, keeps_row=keeps_row))

    def _campaign(self, day: int, *, is_second: bool) -> None:
        """Sign up many users, who use the product for a few days only or not at all."""
        for number in range(5):
            account = self.random.choice([a for a in self._companies.values() if a.is_paying])
            user = self._add_user(
                day,
                account.account_id,
                created=self._moment(day),
                spans=[(day, day + 4 + number % 3)],
                is_passive=number > 0 if is_second else number == 4 and day % 2 == 0,
            )
            user.rate = 1.0

    def _fail_cards(self, day: int) -> None:
        """Let the payments of all accounts fail; two of five are never paid."""
        number = 0
        for account in self._companies.values():
            if account.has_facts and account.is_undisturbed:
                number += 1
                recovers = None if number % 7 in (0, 3, 5) else self.random.randint(2, 9)
                self._fail_payment(account, day, recovers)

    def _win_back(self, day: int) -> None:
        """Let half of the users who stopped long ago come back within a week, for a few days."""
        quiet = [
            user for user in self._known(day) if max(last for _, last in user.spans) < day - 70
        ]
        for number, user in enumerate(quiet):
            if number % 2 == 0 and not user.is_passive:
                first = day + number // 2 % 6
                user.spans.append((first, first + 1))
                user.rate = 1.0

    def _known(self, day: int) -> list[User]:
        """Return the users who signed up by a day, have not been deleted and are not anonymous."""
        return [
            user
            for user in self._people
            if user.created_day <= day and user.deleted_on is None and not user.is_anonymous
        ]

    def _delete_user(self, day: int, *, keeps_row: bool) -> None:
        user = self.random.choice(self._known(day - 20))
        user.deleted_on = day
        at = self._moment(day, 20, 22)
        self._add_fact(user.user_id, "user", "user_deleted", day, at, {})
        if not keeps_row:
            self.users[user.user_id].set(at, None)

    # ------------------------------------------------------------ users merged by alias

    def _visit(self, day: int, first: int) -> str:
        """Add an anonymous user, who works from a day until the day before another one."""
        alias = f"anon_{self._next('anon'):02}"

        def appear(on: int) -> None:
            account = self.random.choice([a for a in self._companies.values() if a.is_paying])
            user = self._add_user(
                on,
                account.account_id,
                created=self._moment(on, 5, 6),
                plan="guest",
                user_id=alias,
                spans=[(on, day - 1)],
            )
            user.rate = 0.8

        self._on(first, appear)
        return alias

    def _alias(self, at: datetime, alias: str, user: str) -> None:
        self.aliases.append((at, alias, user))
        self.aliases.sort(key=lambda one: one[0])

    def _merge_into_known(self, day: int) -> None:
        """An existing user also came anonymously. Both rows stay in the users file."""
        alias = self._visit(day, day - 6)

        def merge(on: int) -> None:
            self._alias(self._moment(on), alias, self.random.choice(self._known(day - 30)).user_id)

        self._on(day, merge)

    def _merge_into_new(self, day: int) -> None:
        """An anonymous user signs up, and the anonymous row is removed."""
        alias = self._visit(day, day - 8)

        def merge(on: int) -> None:
            at = self._moment(on, 7, 9)
            account = self._row_of(alias)["account_id"]
            user = self._add_user(on, account, created=at)
            self._alias(at, alias, user.user_id)
            self.users[alias].set(at, None)

        self._on(day, merge)

    def _merge_without_row(self, day: int) -> None:
        """The user has a row of its own only three days after the alias."""
        alias, user_id = self._visit(day, day - 5), f"usr_{self._next('user'):03}"
        at = self._moment(day, 7, 9)

        def merge(_: int) -> None:
            self._alias(at, alias, user_id)

        def sign_up(on: int) -> None:
            account = self._row_of(alias)["account_id"]
            self._add_user(on, account, created=self._moment(on, 5, 6), user_id=user_id)

        self._on(day, merge)
        self._on(day + 3, sign_up)

    def _merge_chain(self, day: int) -> None:
        """Two anonymous users are merged in sequence into an existing user."""
        one, other = self._visit(day, day - 9), self._visit(day + 4, day - 4)

        def merge(on: int) -> None:
            self._alias(self._moment(on), one, other)

        def merge_again(on: int) -> None:
            self._alias(self._moment(on), other, self._known(day - 30)[0].user_id)

        self._on(day, merge)
        self._on(day + 4, merge_again)

    def _merge_corrected(self, day: int) -> None:
        """The alias first names the wrong user. Of two rows with one alias, the last wins."""
        alias = self._visit(day, day - 5)

        def merge(on: int) -> None:
            wrong, right = self.random.sample(self._known(day - 30), 2)
            self._alias(self._moment(on), alias, wrong.user_id)
            self._on(on + 3, lambda later: self._alias(self._moment(later), alias, right.user_id))

        self._on(day, merge)

    def _row_of(self, user_id: str) -> Row:
        [user] = [user for user in self._people if user.user_id == user_id]
        return user.row

    # ------------------------------------------------------------ events

    def _work(self, day: int) -> None:
        plan, random = self.plan, self.random
        factor = WEEKDAYS[self.date_of(day).weekday()]
        if day in map(plan.delivers, plan.quiet):
            factor *= 0.3
        if day in map(plan.delivers, plan.without_events):
            factor = 0
        for user in self._people:
            if not user.works_on(day) or user.created_day > day:
                continue
            if user.deleted_on is not None and user.deleted_on <= day:
                continue
            chance = user.rate * factor
            if random.random() < chance:
                self._session(user, day)

    def _session(self, user: User, day: int) -> None:
        random = self.random
        at = max(
            self._moment(day, 7, 21),
            datetime.fromisoformat(user.row["user_created_at"]) + timedelta(minutes=5),
        )
        session = f"ses_{self._next('session'):06}"
        location = random.choice(LOCATIONS)
        if random.random() < 0.3:
            self._event(user, day, at, session, location, "", "user_logged_in", {})
        if user.is_passive:
            self._event(user, day, at, session, location, "studio", "page_viewed", {})
            return
        product = random.choice(user.products)
        for number in range(random.choice((1, 1, 2, 2, 3))):
            node, kind = random.choice(_ACTIONS[product])
            if kind == _ACTIONS[product][0][1]:
                user.project += 1
            metadata = {"project_id": f"{user.user_id}-{user.project}"}
            if kind == "project_shared":
                metadata["target_user_id"] = random.choice(self._people).user_id
            moment = at + timedelta(minutes=3 * number + 1, seconds=random.randint(0, 59))
            self._event(user, day, moment, session, location, node, kind, metadata)
        if self.plan.node_added is not None:
            self._take_note(user, day, at + timedelta(minutes=20), session, location)

    def _take_note(self, user: User, day: int, at: datetime, session: str, location: str) -> None:
        """Perhaps record a note. Before the node is added, and from some clients, it names no node."""
        assert self.plan.node_added is not None
        added, is_named = self.plan.delivers(self.plan.node_added), self.random.random() < 0.7
        is_first = day == added and not self._has_named_note
        if day >= added - NOTES_BEFORE_NODE_DAYS and (is_first or self.random.random() < 0.1):
            self._has_named_note |= day == added
            node = NOTES if day >= added and (is_named or is_first) else ""
            self._event(user, day, at, session, location, node, NOTE_CREATED, {})

    def _event(
        self,
        user: User,
        day: int,
        at: datetime,
        session: str,
        location: str,
        node: str,
        kind: str,
        metadata: Mapping[str, str],
    ) -> None:
        random = self._exporter
        late = random.randint(1, MAX_DAYS_LATE) if random.random() < self.plan.late else 0
        row = {
            "event_id": f"evt_{self._next('event'):06}",
            "entity_id": user.user_id,
            "entity_type": "user",
            "event_type": kind,
            "timestamp": _text(at),
            "location": location,
            "session_id": session,
            "product_id": node,
            "metadata": json.dumps(metadata) if metadata else "",
            "received_at": _text(at + timedelta(days=late, seconds=40)),
        }
        self.events.append(Arrival(day, day + late, row))
        if random.random() < self.plan.corrected:
            self._correct(user, day, day + late, row)

    def _correct(self, user: User, day: int, arrived: int, row: Row) -> None:
        """Let an event arrive again with other content, every third time on the day before."""
        random = self._exporter
        again = arrived + random.randint(1, MAX_DAYS_CORRECTED_LATER)
        changed = {**row, "location": "api" if row["location"] != "api" else "web_app"}
        at, other = datetime.fromisoformat(row["timestamp"]), day
        if random.random() < 0.34 and day - 1 >= max(user.created_day + 1, 0):
            other, at = day - 1, at - timedelta(days=1)
            changed["timestamp"] = _text(at)
        received = datetime.fromisoformat(row["received_at"]) + timedelta(days=again - arrived)
        changed["received_at"] = _text(received + timedelta(minutes=5))
        self.events.append(Arrival(other, again, changed))


def _node(
    node: str, tier: str, parent: str, created: datetime, activating: str, qualifying: str
) -> Row:
    above = {name: its_parent for name, _, its_parent, *_ in _CATALOG} | {node: parent}
    family = node
    while above[family]:
        family = above[family]
    return {
        "product_id": node,
        "product_name": node.title(),
        "product_family_id": family,
        "tier": tier,
        "parent_product_id": parent,
        "is_active": "true",
        "created_at": _text(created),
        "product_owner": "team:products",
        "activation_event_types": activating,
        "qualifying_event_types": qualifying,
        "active_days": "",
        "dormant_days": "",
    }


def _write(path: Path, columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write a file at once, so that no run reads half of it."""
    whole = path.with_suffix(".part")
    with whole.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    whole.replace(path)
