"""A randomly generated source with oddities like those in real exports.

Contains mixed forms of timestamps, null words, repeated and superseded rows, versions of users and
accounts, aliases of users, rejected entities with events, ids in any script and with other spellings,
missing columns and inputs, flags that disagree with the catalog, and days around both changes of the
clocks in Los Angeles.
The same seed produces the same files.

The generator avoids texts for which the framework leaves open whether they are readable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

from monstera_assets_tests.helpers.source_files import write_rows

SHARE_WITH_ALIASES = 0.6
"""The share of random sources that have aliases of users; with 0, no source has any."""

Row = dict[str, str]
_DAY = "day"
"""Key of the local date of an event, which is not written."""
_SNAPSHOT = "snapshot"
"""Key of the date of the dump that contains a row, which is not written."""

TIMEZONES = ("UTC", "America/Los_Angeles", "Asia/Kolkata")
SPRING, AUTUMN = date(2025, 3, 9), date(2025, 11, 2)
"""The days on which clocks change in Los Angeles."""
NULLS = ("", "", "", " ", "NULL", r"\N", "null", "None", "NaN", "NaT", " NULL ")
OWN_NULLS = ("", "n/a", "-")
OWN_TIERS = ("trial", "free", "Professional")

_PEOPLE = (
    *("ada", "ADA", "101", "00042", "all", "none", "Zoë", "u|1", "'; DROP TABLE x; --", "動画"),
    *("أحمد", "Ольга", "a b", 'O"Neil, Jr.', "$1 %s {x}", "=1+1", "<b>", "🌿", "true", "\\"),
)
_CHARACTERS = "".join(chr(number) for number in range(32, 127)) + "éñжЖ語한ी🌿\u00a0\u200b"
"""The characters in random ids. All libraries fold their case in the same way."""
_COMPANIES = ("acc", "Acme GmbH", "7", "株式会社", "none", "all|of", "acc.0x", "Ünï")
_STRANGERS = ("nobody", "undefined", "-1", "null user")
_EMAIL_ALIASES = ("zoe@example.com", "Zoe@example.com")
_TREE = (
    # node, tier, parent, activating, qualifying
    ("media", "family", "", "", ""),
    ("video", "product", "media", "video_created", "video_created|video_edited"),
    ("captions", "feature", "video", "", "captions_added"),
    ("übersetzung", "sub_feature", "captions", "captions_translated", ""),
    ("all", "product", "media", "board_created", "board_shared"),
    ("VID-1", "product", "media", "", ""),
    ("none", "product", "media", "", "report_sent|video_created"),
)
_TYPES = (
    *("video_created", "video_edited", "captions_added", "captions_translated"),
    *("board_created", "board_shared", "report_sent", "page_viewed", "user_logged_in"),
)
_BAD_TYPES = ("signup", "Order Completed", "$pageview", "video.created", "video-created", "a__b")
_LOCATIONS = ("web_app", "mobile_app", "desktop_app", "api")
_BAD_LOCATIONS = ("web", "ios", "Web App", "WEB_APP")
_UNREADABLE_TIMES = (
    *("yesterday", "2025-02-30 10:00:00", "2025-13-01", "20250309", "3/9/2025 10:00", "0", "now"),
    *("2025-03-09 12:00:00 PST", "2025-03-09 12:00:00 IST", "2025-03-09 12:00:00 BST"),
    *("2025-03-09 12:00:00 Europe/Berlin", "2025-03-09 10:00:00 PM", "0000-00-00 00:00:00"),
    *("17415000000", "1741500000.5", "1.7415e9", "infinity", "10000-01-01 00:00:00"),
)
_TOO_EARLY = ("1970-01-01", "0001-01-01T00:00:00Z", "1989-12-31 00:00:00", "631065600")
_BAD_METADATA = ("[]", "3", '"x"', '{"a": ', "{'a': 1}", "undefined", '"{\\"a\\": 1}"')
_FACTS = (
    *("subscription_started", "subscription_renewed", "subscription_cancelled", "seats_changed"),
    *("subscription_paused", "subscription_resumed", "tier_changed", "payment_failed"),
    "payment_recovered",
)
_OPTIONAL: Mapping[str, Sequence[str]] = {
    "user_aliases": (),
    "events": (
        *("event_id", "entity_type", "location", "session_id", "product_id"),
        *("is_qualifying_event", "is_activation_event", "metadata", "received_at"),
    ),
    "subscription_events": (
        *("event_id", "entity_type", "location", "session_id", "product_id"),
        *("is_qualifying_event", "is_activation_event", "received_at"),
    ),
    "users": (
        *("email", "country", "plan_type", "acquisition_source"),
        *("valid_from", "updated_at"),
    ),
    "accounts": (
        *("account_name", "subscription_tier", "total_seats", "first_paid_at"),
        *("contract_renewal_date", "monthly_recurring_revenue", "is_trial"),
        *("valid_from", "updated_at"),
    ),
    "product_catalog": (
        *("product_name", "is_active", "created_at", "product_owner"),
        *("active_days", "dormant_days"),
    ),
}


@dataclass(frozen=True)
class OddSource:
    """A source on disk and the settings for loading it.

    Attributes:
        folder: the source.
        timezone: time zone of the days.
        earliest: the earliest accepted date.
        null_words: words for null; None for the default.
        tiers: tiers with a rank; None for the default.
    """

    folder: Path
    timezone: str = "UTC"
    earliest: date = date(1990, 1, 1)
    null_words: tuple[str, ...] | None = None
    tiers: tuple[str, ...] | None = None

    @property
    def options(self) -> dict[str, object]:
        """The settings that differ from their defaults, as arguments of the oracle."""
        given: dict[str, object] = {"timezone": self.timezone, "earliest": self.earliest}
        if self.null_words is not None:
            given["null_words"] = self.null_words
        if self.tiers is not None:
            given["tiers"] = self.tiers
        return given


def write_odd_source(folder: Path, seed: int, events: int = 60) -> OddSource:
    """Write a source.

    Args:
        folder: target folder; must not exist.
        seed: seed of the random numbers.
        events: number of events before copies are added.
    """
    return _Writer(Random(seed), folder).write(events)  # noqa: S311  # not for secrets


@dataclass
class _Writer:
    random: Random
    folder: Path
    inputs: set[str] = field(default_factory=set)
    aliases: list[str] = field(default_factory=list)
    """Ids that rows of user_aliases replace, or that are in cycles or lead into one."""
    with_row: list[str] = field(default_factory=list)
    """Those of the aliases that are not people and have rows of users."""
    without_row: set[str] = field(default_factory=set)
    """People without a row of users under their own id."""

    def write(self, events: int) -> OddSource:
        random = self.random
        self.zone = ZoneInfo(random.choice(TIMEZONES))
        self.day = random.choice((SPRING, AUTUMN))
        self.nulls = random.choice((NULLS, NULLS, NULLS, OWN_NULLS))
        tiers = random.choice((None, None, OWN_TIERS))
        self.inputs = {"events", "users", "accounts", "product_catalog", "subscription_events"}
        for missing in random.choice(
            (
                *[()] * 6,
                ("accounts",),
                ("users", "accounts"),
                ("product_catalog",),
                ("subscription_events",),
                ("users", "accounts", "product_catalog", "subscription_events"),
            )
        ):
            self.inputs.discard(missing)
        # A deletion without users could be of a user that exists only because of later events.
        self.has_deletions = "users" in self.inputs
        self.lists = random.random() < 0.8
        self.people = (*_PEOPLE, *(self._name() for _ in range(4)))
        edge = self.day - timedelta(days=8 if "users" in self.inputs else 1)
        earliest = random.choice((date(1990, 1, 1), edge))
        self.folder.mkdir(parents=True)
        if "product_catalog" in self.inputs:
            self._write("product_catalog", self._catalog())
        if "accounts" in self.inputs:
            self._write("accounts", self._accounts())
        if self._chance(SHARE_WITH_ALIASES):
            self._write("user_aliases", self._alias_rows())
        if "users" in self.inputs:
            self._write("users", self._users())
        if "subscription_events" in self.inputs:
            self._write("subscription_events", self._copies(self._facts()))
        self._write("events", self._copies([self._event(number) for number in range(events)]))
        return OddSource(
            self.folder,
            timezone=str(self.zone),
            earliest=earliest,
            null_words=None if self.nulls is NULLS else OWN_NULLS,
            tiers=tiers,
        )

    # ------------------------------------------------------------ values

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    def _null(self) -> str:
        return self.random.choice(self.nulls)

    def _or_null(self, text: str, share: float = 0.15) -> str:
        return self._null() if self._chance(share) else text

    def _instant(self, first: int, last: int) -> datetime:
        """Return an instant within a few days of a clock change, often exactly at the change."""
        local = datetime.combine(
            self.day + timedelta(days=self.random.randint(first, last)),
            self.random.choice(
                (time(0), time(0), time(1, 30), time(2, 30), time(12), time(23, 59, 59))
            ),
        )
        if self._chance(0.3):
            return local.replace(tzinfo=UTC)
        return local.replace(tzinfo=self.zone, fold=self.random.randint(0, 1))

    def _time(self, instant: datetime) -> str:
        """Return the instant as text in one of the supported formats."""
        moment = instant.astimezone(UTC).replace(tzinfo=None)
        seconds = int((moment - datetime(1970, 1, 1)).total_seconds())  # noqa: DTZ001
        offset = self.random.choice((-8, -7, 2, 5.5, 0))
        local = (moment + timedelta(hours=offset)).isoformat(
            self.random.choice(" T"), self.random.choice(("seconds", "milliseconds"))
        )
        sign, minutes = "-" if offset < 0 else "+", int(abs(offset) * 60)
        hours = f"{minutes // 60:02}"
        text = moment.isoformat(self.random.choice(" T"))
        return self.random.choice(
            (
                *(text, text, f"{text}Z", f"{text} Z", f"{text} UTC", f"{text}UTC", f"{text} GMT"),
                f"{text}.1234567",
                f"{local}{sign}{hours}:{minutes % 60:02}",
                f"{local} {sign}{hours}{minutes % 60:02}",
                *(f"{seconds}", f"{seconds}.0", f"{seconds}000", f"{seconds}000.0"),
                *(f"{seconds}123456", f"{seconds}123456789"),
                instant.date().isoformat(),
            )
        )

    def _name(self) -> str:
        """Return an id of printable characters that does not start or end with a space."""
        middle = "".join(self.random.choices(_CHARACTERS, k=self.random.randint(0, 12)))
        return f"x{middle}{self.random.choice('.;:!?)')}"

    def _spelling(self, name: str) -> str:
        """Return a different spelling of an id."""
        return self.random.choice(
            (name.upper(), name.title(), f" {name}", f"{name} ", f"{name}.0", f" {name}.0 ")
        )

    def _reference(self, names: Sequence[str], share: float = 0.1) -> str:
        """Return an id, a different spelling of it, or an unknown id."""
        name = self.random.choice(names)
        if not self._chance(share):
            return name
        return self._spelling(name) if self._chance(0.6) else self.random.choice(_STRANGERS)

    # ------------------------------------------------------------ entities

    def _catalog(self) -> list[Row]:
        rows = [
            {
                "product_id": node,
                "product_name": self._or_null(self.random.choice((node, "Import from CSV", "動"))),
                "product_family_id": "media",
                "tier": tier,
                "parent_product_id": parent or self._null(),
                "is_active": self.random.choice(("true", "True", "1", "false", "maybe", "")),
                "created_at": self._or_null(self._time(self._instant(-20, -10))),
                "product_owner": self._or_null("team"),
                "activation_event_types": activating if self.lists else self._null(),
                "qualifying_event_types": qualifying if self.lists else self._null(),
                "active_days": self.random.choice(("", "14", "14.0", "many")),
                "dormant_days": self.random.choice(("", "28", "-")),
            }
            for node, tier, parent, activating, qualifying in _TREE
        ]
        if self._chance(0.3):
            rows.append(dict(self.random.choice(rows)))
        if self._chance(0.3):
            rows.append({**rows[1], "product_id": self._null()})
        return rows

    def _accounts(self) -> list[Row]:
        rows = self._entity_copies(
            [self._account(name) for name in _COMPANIES], "account_id", "account_name"
        )
        return self._versions(rows, lambda row: self._account(row["account_id"]))

    def _account(self, name: str) -> Row:
        created = self._time(self._instant(-9, -3))
        return {
            "account_id": name,
            "account_name": self._or_null(f"Company {name}"),
            "subscription_tier": self._or_null(
                self.random.choice(("trial", "starter", "enterprise", "free", "Gold"))
            ),
            "total_seats": self._or_null(self.random.choice(("0", "5", "5.0", "5.5", "many"))),
            "account_created_at": self._creation(created),
            "first_paid_at": self._or_null(self._optional_time(), 0.4),
            "contract_renewal_date": self._or_null(self._optional_time(), 0.3),
            "monthly_recurring_revenue": self._or_null(
                self.random.choice(("0", "49.50", "120", "90,00", "$5", "NaN5"))
            ),
            "is_trial": self.random.choice(("true", "false", "FALSE", "perhaps", "")),
        }

    def _creation(self, text: str) -> str:
        if self._chance(0.9):
            return text
        return self.random.choice(
            (*self.random.sample(_UNREADABLE_TIMES, 2), *_TOO_EARLY[:1], self._null())
        )

    def _optional_time(self) -> str:
        midnight = f"{self.day}T00:00:00"
        return self.random.choice(
            (self._time(self._instant(-3, 300)), midnight, f"{midnight}Z", "soon", "2025-02-30")
        )

    def _alias_rows(self) -> list[Row]:
        """Return rows of user_aliases, and choose which ids have rows of users."""
        random = self.random
        spare = [self._name() for _ in range(8)]
        people = random.sample(self.people, len(self.people))
        pairs: list[tuple[str, str]] = []

        def new(user: str) -> str:
            """Return an id for an alias that is no person."""
            known = {*self.people, *self.aliases}
            options = [self._spelling(user), *spare, *_EMAIL_ALIASES, f"{len(known)}"]
            return random.choice([option for option in options if option not in known])

        def chain(user: str, length: int) -> None:
            for _ in range(length):
                # One out of four aliases is a person with a row of its own.
                alias = people.pop() if self._chance(0.25) else new(user)
                pairs.append((alias, user))
                self.aliases.append(alias)
                if alias not in self.people and self._chance(0.6):
                    self.with_row.append(alias)
                user = random.choice((user, alias, alias))

        for _ in range(random.randint(2, 5)):
            user, others = people.pop(), len(self.with_row)
            chain(user, random.randint(1, 3))
            if len(self.with_row) > others and self._chance(0.6):
                self.without_row.add(user)
        if self._chance(0.3):
            chain(random.choice(_STRANGERS), 1)
        for _ in range(random.randint(0, 2)):
            first = people.pop() if self._chance(0.5) else new(people[0])
            self.aliases.append(first)
            chain(first, random.choice((0, 1, 2, 3)))
            pairs.append((first, self.aliases[-1]))
            chain(random.choice((first, self.aliases[-1])), random.choice((0, 0, 1)))
        rows = [{"alias_id": alias, "user_id": user} for alias, user in pairs]
        random.shuffle(rows)
        for _ in range(random.randint(0, len(rows) // 2)):
            like = random.choice(rows)
            other = random.choice(
                (
                    *({}, {}, {"user_id": random.choice(self.people)}),
                    {"user_id": random.choice(self.aliases)},
                )
            )
            rows.insert(random.randint(0, len(rows)), {**like, **other})
        if self._chance(0.4):
            column = random.choice(("alias_id", "user_id"))
            rows.insert(random.randint(0, len(rows)), {**random.choice(rows), column: self._null()})
        return rows

    def _users(self) -> list[Row]:
        known = [name for name in self.people if name not in self.without_row]
        rows = [self._user(name) for name in (*known, *self.with_row)]
        if self._chance(0.5):
            rows.append({**self.random.choice(rows), "user_id": self._null()})
        rows = self._entity_copies(rows, "user_id", "country")
        return self._versions(rows, lambda row: self._user(row["user_id"]))

    def _user(self, name: str) -> Row:
        first = -5 if name in self.aliases else -3
        return {
            "user_id": name,
            "email": self._or_null(f"{self.random.randint(0, 99)}@example.com"),
            "account_id": self._or_null(self._reference(_COMPANIES), 0.1),
            "user_created_at": self._creation(self._time(self._instant(first, 1))),
            "country": self._or_null(self.random.choice(("DE", "🇩🇪", "<b>"))),
            "plan_type": self._or_null("paid"),
            "acquisition_source": self._or_null(self.random.choice(("google", "Google"))),
        }

    def _versions(self, rows: list[Row], redraw: Callable[[Row], Row]) -> list[Row]:
        """Add versions of some entities, and state the days of versions in one of several ways.

        `redraw` returns another row of an entity.
        """

        def changed(row: Row) -> Row:
            """Return the row with one or two values that are drawn again and may be the same."""
            other = redraw(row)
            columns = self.random.sample(list(row)[1:], self.random.choice((1, 1, 2)))
            return {**row, **{column: other[column] for column in columns}}

        if self._chance(0.3):
            rows = self._dumps(rows, changed)
        else:
            for _ in range(self.random.randint(0, 2 * len(rows))):
                row = self.random.choice(rows)
                other = changed(row) if self._chance(0.8) else dict(row)
                rows.insert(self.random.randint(0, len(rows)), other)
        stated = self.random.choice(
            ((), (), ("valid_from",), ("updated_at",), ("valid_from", "updated_at"))
        )
        day, time = "valid_from" in stated, "updated_at" in stated
        return [
            {
                **row,
                **({"valid_from": self._or_null(self._version_day(), 0.1)} if day else {}),
                **({"updated_at": self._or_null(self._version_time(), 0.1)} if time else {}),
            }
            for row in rows
        ]

    def _dumps(self, rows: list[Row], changed: Callable[[Row], Row]) -> list[Row]:
        """Return dumps of all rows on several days, in which some have changed and some are lacking."""
        dumps = []
        for number in sorted(self.random.sample(range(-8, 5), self.random.randint(1, 4))):
            rows = [changed(row) if self._chance(0.2) else row for row in rows]
            dumps += [
                {**row, _SNAPSHOT: str(self.day + timedelta(days=number))}
                for row in rows
                if self._chance(0.9)
            ]
        return dumps

    def _version_day(self) -> str:
        day = self.day + timedelta(days=self.random.randint(-6, 3))
        return self.random.choice(
            (
                *(f"{day}", f"{day}", f"{day} 00:00:00", f"{day}T00:00:00Z"),
                *(self._time(self._instant(-6, 3)), self.random.choice(("soon", "2025-02-30"))),
            )
        )

    def _version_time(self) -> str:
        return "soon" if self._chance(0.05) else self._time(self._instant(-6, 3))

    def _entity_copies(self, rows: list[Row], key: str, changed: str) -> list[Row]:
        for _ in range(self.random.randint(0, 4)):
            like = self.random.choice(rows)
            copy = dict(like) if self._chance(0.4) else {**like, changed: "changed"}
            rows.insert(self.random.randint(0, len(rows)), copy)
        if self._chance(0.3):
            rows.append({**self.random.choice(rows), key: self.random.choice(_STRANGERS[:2])})
        return rows

    # ------------------------------------------------------------ events

    def _event(self, number: int) -> Row:
        random = self.random
        entity_type = random.choice(("user",) * 9 + ("admin", "system", "account"))
        names = _COMPANIES if entity_type == "account" else self._ids_of_people()
        instant = self._instant(-2, 4)
        row = {
            "event_id": self._or_null(f"e{number}", 0.05),
            "entity_id": self._or_null(self._reference(names), 0.03),
            "entity_type": self._or_null(entity_type, 0.1 if entity_type == "user" else 0.0),
            "event_type": random.choice(_TYPES),
            "timestamp": self._time(instant),
            "location": self._or_null(random.choice(_LOCATIONS), 0.1),
            "session_id": self._or_null(random.choice(("s1", "undefined", "n/a", "s 2")), 0.3),
            "product_id": self._or_null(self._reference([node for node, *_ in _TREE], 0.05), 0.2),
            "is_qualifying_event": random.choice(("true", "false", "True", "0", "", "perhaps")),
            "is_activation_event": random.choice(("true", "false", "FALSE", "1", "", "NULL")),
            "metadata": self._metadata(),
            "received_at": self._or_null(self._time(self._instant(0, 6)), 0.4),
            "batch": "b1",  # an unknown column
            _DAY: str(instant.astimezone(self.zone).date()),
        }
        broken: Mapping[str, Sequence[str]] = {
            "entity_type": ("robot", "User"),
            "event_type": (*_BAD_TYPES, self._null()),
            "timestamp": (*_UNREADABLE_TIMES, *_TOO_EARLY, self._null()),
            "location": _BAD_LOCATIONS,
            "metadata": _BAD_METADATA,
            "received_at": ("soon",),
        }
        for column, texts in broken.items():
            if self._chance(0.03):
                row[column] = random.choice(texts)
        return row

    def _ids_of_people(self) -> Sequence[str]:
        """Return ids of people, sometimes those under which they are known as well."""
        return self.aliases if self.aliases and self._chance(0.3) else self.people

    def _target(self) -> Mapping[str, object]:
        """Return metadata with a target or without."""
        if not self.aliases or self._chance(0.5):
            return {}
        target = self.random.choice((*self.aliases, *self.people[:6], *_STRANGERS, None))
        if target and re.fullmatch(r"[1-9]\d*", target) and self._chance(0.5):
            return {"target_user_id": int(target)}
        return {"target_user_id": target}

    def _metadata(self) -> str:
        values = {
            "project_id": self.random.choice(("p1", "NULL", None, 7)),
            "invitee": self.random.choice(
                ("ada", "juniper@example.com", "by x.y@mail.example.org")
            ),
            "動画": [1, {"to": "a@b.example"}],
        }
        chosen = {name: value for name, value in values.items() if self._chance(0.4)}
        text = json.dumps({**chosen, **self._target()}, ensure_ascii=self._chance(0.5))
        return self._or_null(text, 0.4)

    def _facts(self) -> list[Row]:
        rows = []
        for number in range(self.random.randint(0, 25)):
            deletes = self.has_deletions and self._chance(0.15)
            kind = "user_deleted" if deletes else self.random.choice(_FACTS)
            entity_type = "user" if deletes else "account"
            row = {
                "event_id": self._or_null(f"f{number}", 0.05),
                "entity_id": self._reference(self._ids_of_people() if deletes else _COMPANIES),
                "entity_type": self._or_null(entity_type, 0.3),
                "event_type": kind,
                "timestamp": self._time(self._instant(-2, 4)),
                "location": self._or_null("api", 0.3),
                "session_id": self._null(),
                "product_id": self._or_null("video", 0.9),
                "is_qualifying_event": "",
                "is_activation_event": "",
                "metadata": self._terms(),
                "received_at": self._or_null(self._time(self._instant(0, 6)), 0.4),
            }
            broken: Mapping[str, Sequence[str]] = {
                "event_type": ("coffee_made", "Seats Changed", self._null()),
                "entity_type": ("system", "robot", "account", "user"),
                "timestamp": (*_UNREADABLE_TIMES, *_TOO_EARLY, self._null()),
                "metadata": _BAD_METADATA,
            }
            for column, texts in broken.items():
                if self._chance(0.04):
                    row[column] = self.random.choice(texts)
            rows.append(row)
        return rows

    def _terms(self) -> str:
        values = {
            "total_seats": self.random.choice((7, "7", 7.0, 3.5, "many", "NULL", None)),
            "monthly_recurring_revenue": self.random.choice((0, 49.5, "120", "90,00", None)),
            "subscription_tier": self.random.choice(("starter", "free", "NaN", None)),
            "contract_renewal_date": self._optional_time(),
            "effective_date": self.random.choice((str(self.day), "None", "2025-02-30")),
            "contact": "billing@example.com",
            "subscription_id": self.random.choice(("A", "B", 101, "101", "NULL", None)),
            "currency": self.random.choice(("EUR", "eur", " USD ", "gold", "None", 7, None)),
        }
        chosen = {name: value for name, value in values.items() if self._chance(0.4)}
        return self._or_null(json.dumps({**chosen, **self._target()}), 0.2)

    def _copies(self, rows: list[Row]) -> list[Row]:
        """Add rows that repeat or supersede others, or are superseded by them."""
        for _ in range(self.random.randint(0, len(rows) // 3)):
            like = self.random.choice(rows)
            changes: Sequence[Mapping[str, str]] = (
                {},
                {},
                {"received_at": self._null()},
                {"received_at": self._time(self._instant(0, 6))},
                {"session_id": "corrected"},
                {"session_id": "corrected", "received_at": self._null()},
                {"session_id": "again", "received_at": self._time(self._instant(0, 6))},
                {"timestamp": self._time(self._instant(-2, 4))},
                {"location": "the moon", "received_at": self._time(self._instant(6, 6))},
            )
            rows.insert(self.random.randint(0, len(rows)), {**like, **self.random.choice(changes)})
        return rows

    # ------------------------------------------------------------ files

    def _write(self, name: str, rows: list[Row]) -> None:
        """Write an input as a file, as a folder of files, or with one folder per day."""
        dropped = {column for column in _OPTIONAL[name] if self._chance(0.12)}
        unwritten = {*dropped, _DAY, _SNAPSHOT}
        columns = [column for column in rows[0] if column not in unwritten] if rows else []
        self.random.shuffle(columns)
        stem = self.random.choice((name, f"seed_{name}"))
        layout = self.random.choice(("file", "file", "folder", "by day"))
        by_file: dict[str, list[Row]] = {}
        if not rows:
            self.inputs.discard(name)
        elif _SNAPSHOT in rows[0]:
            for row in rows:
                part = self.random.choice(("a", "b"))
                by_file.setdefault(f"snapshot_date={row[_SNAPSHOT]}/{part}", []).append(row)
            for file, part_of_rows in by_file.items():
                self._file(self.folder / stem / f"{file}.csv", part_of_rows, columns)
        elif layout == "by day" and name == "events":
            for row in rows:
                part = self.random.choice(("a", "b"))
                by_file.setdefault(f"event_date={self._folder(row)}/{part}", []).append(row)
            for file, part_of_rows in by_file.items():
                self._file(self.folder / stem / f"{file}.csv", part_of_rows, columns)
        elif layout == "file" or len(rows) < 3:
            self._file(self.folder / f"{stem}.csv", rows, columns)
        else:
            # One of the files may lack an optional column.
            lacking = self.random.choice((None, None, *_OPTIONAL[name]))
            for number, file in enumerate(("b", "a", "c d")):
                kept = [column for column in columns if number or column != lacking]
                self._file(self.folder / stem / f"{file}.csv", rows[number::3], kept)

    def _file(self, path: Path, rows: list[Row], columns: list[str]) -> None:
        write_rows(path, [{column: row[column] for column in columns} for row in rows], columns)

    def _folder(self, row: Row) -> str:
        """Return the folder date for a row, which is usually the row's local date."""
        if self._chance(0.9):
            return row[_DAY]
        return str(self.day + timedelta(days=self.random.randint(-2, 4)))
