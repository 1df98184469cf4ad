"""Behavior, segments and workflow runs agree with the oracle."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from random import Random

import pytest

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.segments import COMPOSITE, DIMENSIONS, segment_version
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.lifecycle_warehouse import (
    ACCOUNTS,
    ACTIVITY,
    CATALOG_NODES,
    ENRICHED,
    EVENTS,
    FEATURE_ACTIVITY,
    HISTORY,
    PRODUCT_HISTORY,
    RUNS,
    SEGMENTS,
    STEPS,
    USERS,
    WORKFLOWS,
    LifecycleWarehouse,
)
from monstera_assets_tests.helpers.memory_warehouse import Row
from monstera_assets_tests.inputs.strategies import known_versions, some_days, version_rows
from monstera_assets_tests.oracle.policy import OraclePolicy
from monstera_assets_tests.oracle.products import product_history
from monstera_assets_tests.oracle.segments import Life, Use, measures, segments
from monstera_assets_tests.oracle.users import QualifyingDay, user_history
from monstera_assets_tests.oracle.versions import Versions
from monstera_assets_tests.oracle.workflows import Run, StepEvent, workflow_runs
from monstera_assets_tests.property.comparison import compare

FIRST = date(2023, 9, 20)
SPAN = DateWindow(FIRST, FIRST + timedelta(days=470))
COMPARED = DateWindow(SPAN.last - timedelta(days=64), SPAN.last)
POLICY = LifecyclePolicy()

PARENTS = {
    **dict.fromkeys(("video", "canvas", "spaces", "boards", "fax"), "work"),
    **dict.fromkeys(("cut", "captions", "old_cut"), "video"),
    "translation": "captions",
    **dict.fromkeys(("templates", "layers"), "canvas"),
    "comments": "spaces",
    "fax_cover": "fax",
}
RETIRED = {"fax", "old_cut"}
TIERS = {"work": "family", "translation": "sub_feature"} | {
    node: "product" if parent == "work" else "feature"
    for node, parent in PARENTS.items()
    if node != "translation"
}
PRODUCTS = ("boards", "canvas", "spaces", "video")
FEATURES = {"video": 2, "canvas": 2, "spaces": 1}
"""The number of active features of each active product, counted by hand."""
NODES = (None, *sorted(PARENTS))
TYPES = ("made", "made", "changed", "published", "member_invited", "project_shared", "viewed")
LEADS = ("published", "published", "member_invited")
FLOWS: Mapping[str, Sequence[tuple[str, str]]] = {
    "publishing": [("video", "made"), ("video", "changed"), ("video", "published")],
    "handoff": [("canvas", "made"), ("spaces", "project_shared")],
    "twice": [("captions", "made"), ("captions", "made")],
    "once": [("boards", "published")],
}


@dataclass(frozen=True)
class Happening:
    """A randomly drawn event."""

    event_id: str
    at: datetime
    node: str | None
    event_type: str
    is_qualifying: bool
    project_id: str | None
    session_id: str | None
    target: str | None

    @property
    def above(self) -> list[str]:
        nodes = [self.node] if self.node else []
        while nodes and nodes[-1] in PARENTS:
            nodes.append(PARENTS[nodes[-1]])
        return nodes

    def of_tier(self, tier: str) -> str | None:
        return next((node for node in self.above if TIERS[node] == tier), None)


@dataclass(frozen=True)
class Person:
    """A randomly drawn user."""

    user_id: str
    signup: date
    sources: Versions[str]
    happenings: Sequence[Happening]

    def __str__(self) -> str:
        lines = (f"  {h}" for h in sorted(self.happenings, key=lambda h: (h.at, h.event_id)))
        return "\n".join([f"{self.user_id} {self.signup} {self.sources}", *lines])


def people(random: Random, count: int) -> list[Person]:
    """Draw users who are active daily, weekly, monthly, once a year or only once, or who leave."""
    drawn = []
    for number in range(count):
        age = random.choice([0, 5, 14, 15, 30, 31, 60, 90, 91, 130, 200, 365, 366, 440, 470])
        signup = SPAN.last - timedelta(days=max(0, age - random.choice([0, 0, 1, 20, 40])))
        rhythm = random.choice(["daily", "weekly", "monthly", "seasonal", "rare", "lapsing", "no"])
        busy = random.choice([1, 1, 2, 4])
        nodes, types = random.choice(
            [
                (NODES, TYPES),
                (NODES, TYPES),
                (("video", "captions", "cut"), TYPES),
                (("canvas",), TYPES),
                (("boards",), LEADS),
                ((None,), TYPES),
            ]
        )
        drawn.append(
            Person(
                user_id=f"u{number:03}",
                signup=signup,
                sources=Versions(
                    random.choice(["organic", "invitation"]),
                    tuple(
                        (day, random.choice(["organic", "invitation", "partner"]))
                        for day in some_days(random, (signup, *COMPARED))
                    ),
                ),
                happenings=[
                    _happening(random, f"e{number:03}-{n}", day, nodes, types)
                    for n, day in enumerate(
                        day
                        for day in _days(random, rhythm, signup)
                        for _ in range(random.randint(1, busy))
                    )
                ],
            )
        )
    return drawn


def _days(random: Random, rhythm: str, signup: date) -> list[date]:
    every = [signup + timedelta(days=n) for n in range((SPAN.last - signup).days + 1)]
    share = {"daily": 0.75, "weekly": 0.18, "monthly": 0.04, "rare": 0.008, "lapsing": 0.5}
    if rhythm in share:
        quiet_from = (
            len(every) - random.choice([8, 20, 35, 45, 62]) if rhythm == "lapsing" else None
        )
        return [day for day in every[:quiet_from] if random.random() < share[rhythm]]
    if rhythm == "seasonal":
        now = SPAN.last - timedelta(days=random.randint(0, 60))
        then = now - timedelta(days=random.choice([345, 350, 351, 365, 379, 380, 385]))
        between = now - timedelta(days=random.choice([58, 60, 61, 62, 63, 120]))
        return [day for day in (then, between, now) if day >= signup]
    return []


def _happening(
    random: Random, event_id: str, day: date, nodes: Sequence[str | None], types: Sequence[str]
) -> Happening:
    moment = random.choice([time.min, time(9), time(9), time(17, 30), time.max])
    event_type = random.choice(types)
    return Happening(
        event_id=event_id,
        at=datetime.combine(day, moment),
        node=random.choice(nodes),
        event_type=event_type,
        is_qualifying=event_type != "viewed" and random.random() < 0.95,
        project_id=random.choice([None, "p1", "p2", f"p{day:%m}", f"p{day:%m%d}"]),
        session_id=random.choice([None, f"s{day:%m%d}"]),
        target=random.choice([None, *(f"t{n}" for n in range(9))]),
    )


def load(made: LifecycleWarehouse, drawn: Sequence[Person], through: date = date.max) -> None:
    """Replace all facts with the drawn facts dated up to a day."""
    made.load(ACCOUNTS, [{"account_id": "acc", "subscription_tier": "starter"}])
    made.load(
        CATALOG_NODES,
        [
            {
                "product_id": node,
                "tier": TIERS[node],
                "parent_product_id": PARENTS.get(node),
                "is_active": node not in RETIRED,
            }
            for node in TIERS
        ],
    )
    made.load(
        WORKFLOWS,
        [
            {"workflow_id": flow, "step_number": 10 * n, "product_id": node, "event_type": kind}
            for flow, steps in FLOWS.items()
            for n, (node, kind) in enumerate(steps, start=1)
        ],
    )
    versions = [
        row
        for person in drawn
        for row in version_rows(
            {
                "user_id": person.user_id,
                "account_id": "acc",
                "user_created_at": datetime.combine(person.signup, time.min),
            },
            {"acquisition_source": person.sources.first},
            ((day, {"acquisition_source": source}) for day, source in person.sources.later),
        )
    ]
    made.load(USERS, known_versions("user_id", versions, through))
    made.load(
        EVENTS,
        [
            {
                "event_id": h.event_id,
                "entity_id": person.user_id,
                "entity_type": "user",
                "event_type": h.event_type,
                "event_timestamp": h.at,
                "event_date": h.at.date(),
                "location": "web_app",
                "session_id": h.session_id,
                "product_id": h.node,
                "is_qualifying_event": h.is_qualifying,
                "is_activation_event": h.is_qualifying and h.event_type == "made",
                "metadata": json.dumps({"project_id": h.project_id, "target_user_id": h.target}),
            }
            for person in drawn
            for h in person.happenings
            if h.at.date() <= through
        ],
    )
    for asset in (ACTIVITY, ENRICHED, FEATURE_ACTIVITY, STEPS):
        made.compute(asset)
    made.compute(HISTORY, POLICY, SPAN)
    made.compute(PRODUCT_HISTORY, POLICY, SPAN)
    made.compute(RUNS, POLICY)


def life_of(person: Person) -> Life:
    """Return the facts about a user, with the states that the oracle computes."""
    qualifying = [h for h in person.happenings if h.is_qualifying]
    history = user_history(person.user_id, person.signup, _qualifying_days(qualifying), SPAN.last)
    products = {}
    for product in PRODUCTS:
        here = [h for h in person.happenings if h.of_tier("product") == product]
        days = product_history(
            person.user_id,
            product,
            person.signup,
            SPAN.last,
            first_access=min((h.at.date() for h in here), default=None),
            activation=min(
                (h.at.date() for h in here if h.is_qualifying and h.event_type == "made"),
                default=None,
            ),
            qualifying_days=_qualifying_days([h for h in here if h.is_qualifying]),
        )
        products[product] = {d.snapshot_date: d.current_state for d in days if d.is_stored}
    return Life(
        signup=person.signup,
        acquisition_source=person.sources,
        uses=[_use(h) for h in person.happenings],
        activity_states={d.snapshot_date: d.activity_state for d in history},
        first_activation=min((h.at.date() for h in qualifying), default=None),
        product_states=products,
    )


def _qualifying_days(qualifying: Sequence[Happening]) -> list[QualifyingDay]:
    by_day: dict[date, int] = defaultdict(int)
    for h in qualifying:
        by_day[h.at.date()] += 1
    return [QualifyingDay(day, events) for day, events in by_day.items()]


def _use(h: Happening) -> Use:
    feature = h.of_tier("feature")
    collaborates = h.event_type in ("member_invited", "project_shared")
    return Use(
        day=h.at.date(),
        is_qualifying=h.is_qualifying,
        product_id=h.of_tier("product"),
        feature_id=feature if RETIRED.isdisjoint(h.above) else None,
        reaches=(h.target or f"event {h.event_id}") if collaborates else None,
    )


def runs_of(person: Person, through: date) -> list[Run]:
    events = [
        StepEvent(h.at, h.event_id, h.event_type, frozenset(h.above), h.project_id, h.session_id)
        for h in person.happenings
    ]
    return workflow_runs(events, FLOWS, through, workflow_days=7)


def expected_rows(drawn: Sequence[Person], window: DateWindow) -> list[Mapping[str, object]]:
    rows: list[Mapping[str, object]] = []
    for person in drawn:
        life = life_of(person)
        for day in window:
            if day < person.signup:
                continue
            counted = measures(life, day, runs_of(person, day), FEATURES)
            rows.append(
                {
                    "user_id": person.user_id,
                    "snapshot_date": day,
                    "segment_version": segment_version(POLICY),
                    **segments(counted),
                    **counted,
                }
            )
    return rows


@pytest.fixture(scope="module")
def drawn() -> list[Person]:
    return people(Random(7), 140)  # noqa: S311  # not for secrets


@pytest.fixture(scope="module")
def warehouse(drawn: list[Person]) -> LifecycleWarehouse:
    """All facts of the users, which a test that replaces them loads again."""
    made = LifecycleWarehouse()
    load(made, drawn)
    return made


NAMES = [column.name for column in SEGMENTS.table.columns]


def test_the_thresholds_are_the_oracles() -> None:
    assert OraclePolicy() == OraclePolicy(
        new_user_days=POLICY.new_user_days,
        active_days=POLICY.active_days,
        dormant_days=POLICY.dormant_days,
    )
    assert POLICY.workflow_days == 7


def test_segments_and_measures_are_the_oracles(
    warehouse: LifecycleWarehouse, drawn: list[Person]
) -> None:
    by_id = {person.user_id: str(person) for person in drawn}
    expected = expected_rows(drawn, COMPARED)
    for dimension in (*DIMENSIONS, COMPOSITE):
        reached = {row[dimension.name] for row in expected}
        assert reached == set(dimension.values), "the drawn users do not reach every segment"
    compare(NAMES, warehouse.compute(SEGMENTS, POLICY, COMPARED), expected, by_id.__getitem__)


def test_days_computed_one_by_one_are_those_of_the_range(
    warehouse: LifecycleWarehouse, drawn: list[Person]
) -> None:
    at_once = warehouse.compute(SEGMENTS, POLICY, COMPARED)
    for day in (COMPARED.last, COMPARED.first, COMPARED.first + timedelta(days=31)):
        alone = warehouse.compute(SEGMENTS, POLICY, DateWindow(day, day))
        assert alone == [row for row in at_once if row[1] == day]


def test_the_first_days_of_the_facts(warehouse: LifecycleWarehouse, drawn: list[Person]) -> None:
    first = min(person.signup for person in drawn)
    window = DateWindow(first, first + timedelta(days=2))
    by_id = {person.user_id: str(person) for person in drawn}
    rows = warehouse.compute(SEGMENTS, POLICY, window)
    assert rows
    compare(NAMES, rows, expected_rows(drawn, window), by_id.__getitem__)


def test_later_facts_change_no_earlier_day(
    warehouse: LifecycleWarehouse, drawn: list[Person]
) -> None:
    day = COMPARED.first + timedelta(days=20)
    known: dict[str, list[Row]] = {}
    for name, through in (("then", day), ("later", date.max)):
        load(warehouse, drawn, through)
        known[name] = warehouse.compute(SEGMENTS, POLICY, DateWindow(day, day))
    assert known["then"] == known["later"]


def test_runs_are_the_oracles(warehouse: LifecycleWarehouse, drawn: list[Person]) -> None:
    as_of = SPAN.last
    expected = [
        {
            "user_id": person.user_id,
            "workflow_id": run.workflow_id,
            "instance_type": run.instance[0],
            "instance_id": run.instance[1],
            "started_at": run.reached[0],
            "started_date": run.reached[0].date(),
            "steps": run.steps,
            "steps_reached": len(run.reached),
            "last_step_at": run.reached[-1],
            "last_step_date": run.reached[-1].date(),
            "status": run.status(as_of, 7),
            "completed_at": run.completed_at,
            "hours_to_complete": (
                (run.completed_at - run.reached[0]) / timedelta(hours=1)
                if run.completed_at
                else None
            ),
            "as_of_date": as_of,
        }
        for person in drawn
        for run in runs_of(person, as_of)
    ]
    assert {row["status"] for row in expected} == {"completed", "open", "abandoned"}
    assert {row["instance_type"] for row in expected} == {"project", "session", "day"}
    by_id = {person.user_id: str(person) for person in drawn}
    names = [column.name for column in RUNS.table.columns]
    compare(names, warehouse.compute(RUNS, POLICY), expected, by_id.__getitem__)
