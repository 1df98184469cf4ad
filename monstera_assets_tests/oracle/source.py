"""The bronze rows of a source, computed a second time (framework, section 2).

Unlike the other modules of the oracle, this module reads files. It reads the CSV files of a source
row by row with the standard library and applies the rules in the order of the framework. It has only
the versions that the source states and those that a first run sees.

Where the framework leaves something open, the function's docstring describes what it does.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from datetime import timezone as fixed_offset
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

NULL_WORDS = ("", "NULL", r"\N", "null", "None", "NaN", "NaT")
TIERS = ("trial", "starter", "professional", "enterprise")
EARLIEST = date(1990, 1, 1)

INPUTS = (
    "user_aliases",
    "accounts",
    "users",
    "product_catalog",
    "subscription_events",
    "events",
)
ENTITY_TYPES = ("user", "admin", "system", "account")
LOCATIONS = ("web_app", "mobile_app", "desktop_app", "api")
NODE_TIERS = ("family", "product", "feature", "sub_feature")
ACCOUNT_FACTS = (
    "subscription_started",
    "subscription_renewed",
    "subscription_cancelled",
    "subscription_paused",
    "subscription_resumed",
    "seats_changed",
    "tier_changed",
    "payment_failed",
    "payment_recovered",
)
USER_FACTS = ("user_deleted",)
UNKNOWN = "unknown"

_EVENT_COLUMNS = (
    *("event_id", "entity_id", "entity_type", "event_type", "timestamp", "location"),
    *("session_id", "product_id", "is_qualifying_event", "is_activation_event"),
    *("metadata", "received_at"),
)
COLUMNS: Mapping[str, Sequence[str]] = {
    "user_aliases": ("alias_id", "user_id"),
    "events": _EVENT_COLUMNS,
    "subscription_events": _EVENT_COLUMNS,
    "users": (
        *("user_id", "email", "account_id", "user_created_at"),
        *("country", "plan_type", "acquisition_source", "valid_from", "updated_at"),
    ),
    "accounts": (
        *("account_id", "account_name", "subscription_tier", "total_seats", "account_created_at"),
        *("first_paid_at", "contract_renewal_date", "monthly_recurring_revenue", "is_trial"),
        *("valid_from", "updated_at"),
    ),
    "product_catalog": (
        *("product_id", "product_name", "product_family_id", "tier", "parent_product_id"),
        *("is_active", "created_at", "product_owner"),
        *("activation_event_types", "qualifying_event_types", "active_days", "dormant_days"),
    ),
}
"""The columns that are read per input. Other columns of a file are ignored."""
REQUIRED: Mapping[str, Sequence[str]] = {
    "user_aliases": ("alias_id", "user_id"),
    "events": ("entity_id", "event_type", "timestamp"),
    "subscription_events": ("entity_id", "event_type", "timestamp"),
    "users": ("user_id", "user_created_at"),
    "accounts": ("account_id", "account_created_at"),
    "product_catalog": ("product_id",),
}

Values = Mapping[str, str | None]
"""A row's text values by column, with null for null words."""
FOLDER_KEYS = {"users": "snapshot_date=", "accounts": "snapshot_date="}
"""How the names of folders with a date begin, if not with `event_date=`."""
CREATION = {
    "users": ("user_created_at", "signup_date"),
    "accounts": ("account_created_at", "created_date"),
}
"""The columns that all versions of an entity have from the first one."""
FIRST_PAYMENT = ("first_paid_at", "first_paid_date")
"""The columns that all versions of an account have from the latest one that states them."""
Content = tuple[Any, ...]
"""A row's values as read. They determine whether rows with the same id are repeated or superseded."""
Row = dict[str, Any]
"""An accepted row: its values by column of the bronze table."""


@dataclass(frozen=True)
class Line:
    """One row of a file.

    Attributes:
        input_name: the input.
        file: path of the file, relative to the source.
        file_number: position of the file among the files of the input, by name.
        row_number: position of the row in the file.
        folder_date: date of the folder in a layout by day or, of dumps, by date of the snapshot.
        values: the texts as read.
        malformed: the reason why the row could not be split into the columns.
    """

    input_name: str
    file: str
    file_number: int
    row_number: int
    folder_date: date | None
    values: Values
    malformed: str | None = None

    def __getitem__(self, column: str) -> str | None:
        return self.values.get(column)


class Rejected(NamedTuple):
    """A rejected row."""

    line: Line
    reason: str
    detail: str | None
    event_date: date | None


class Fault(NamedTuple):
    """A fault of an accepted row."""

    line: Line
    fault: str


@dataclass
class Candidate:
    """A row of users or accounts that breaks no rule.

    Attributes:
        line: the row.
        values: its values by column of the bronze table, as filled in.
        valid_from: the first day of the version.
        updated_at: the stated time of the change, or a time before all others.
        faults: its faults.
    """

    line: Line
    values: Row
    valid_from: date
    updated_at: datetime
    faults: list[Fault]

    @property
    def place(self) -> tuple[datetime, int, int]:
        """The position among the rows of the entity and day, of which the last one wins."""
        return self.updated_at, self.line.file_number, self.line.row_number


class Counts(NamedTuple):
    """The ledger of an input."""

    read: int
    accepted: int
    repeated: int
    rejected: int


@dataclass
class Source:
    """The content of bronze after loading a source.

    Attributes:
        events: the accepted events. `event_id` is null where the source has none.
        subscription_events: the accepted billing and subscription facts.
        user_aliases: the aliases, each with its user and the earliest creation under it.
        users: the versions of users, including users derived from events.
        accounts: the versions of accounts, including accounts derived from users.
        product_catalog: the nodes, including those derived from events.
        rejected: the rejected rows.
        faults: the faults of accepted rows.
        counts: the ledger per input that exists.
        first_day: first day of the accepted events and facts.
        last_day: last day of these and of the creation of users and accounts.
    """

    events: list[Row] = field(default_factory=list)
    subscription_events: list[Row] = field(default_factory=list)
    user_aliases: list[Row] = field(default_factory=list)
    users: list[Row] = field(default_factory=list)
    accounts: list[Row] = field(default_factory=list)
    product_catalog: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    counts: dict[str, Counts] = field(default_factory=dict)
    first_day: date | None = None
    last_day: date | None = None

    def reasons(self, input_name: str) -> list[str]:
        """Return the reasons of an input's rejected rows, in row order."""
        return [found.reason for found in self.rejected if found.line.input_name == input_name]

    def faults_of(self, input_name: str) -> list[str]:
        """Return the faults of an input's accepted rows, in row order."""
        return [found.fault for found in self.faults if found.line.input_name == input_name]


# ---------------------------------------------------------------- values


def is_null(text: str | None, null_words: Collection[str] = NULL_WORDS) -> bool:
    """Return whether text is null, that is, whether it equals one of the words after trimming."""
    return text is None or text.strip() in null_words


_DAY = r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)([.,](?P<fraction>\d+))?)?"
_OFFSET = r"(?P<offset>Z|UTC|GMT|[+-]\d\d(:?\d\d)?)"
_DATE_ONLY = re.compile(_DAY)
_MOMENT = re.compile(rf"{_DAY}[T ]{_TIME}( ?{_OFFSET})?")
_NUMBER = re.compile(r"(?P<digits>\d+)(\.0)?")
_UNITS = {
    9: 1,
    10: 1,
    12: 1_000,
    13: 1_000,
    15: 1_000_000,
    16: 1_000_000,
    18: 1_000_000_000,
    19: 1_000_000_000,
}
"""Units per second in an epoch value, by number of digits."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BEFORE_ANY = datetime(1, 1, 1)  # noqa: DTZ001  # instants are in UTC, without tzinfo


def read_timestamp(text: str, zone: ZoneInfo) -> datetime | None:
    """Return the instant in UTC, without tzinfo, or None if the text is unreadable.

    Only the extended calendar form of ISO 8601 is read, with two digits per part. 24:00:00 is the end
    of the day. Digits after the sixth of a fraction are dropped. A negative number is unreadable. The
    year in UTC is 1 to 9999.
    """
    text = text.strip()
    try:
        if number := _NUMBER.fullmatch(text):
            return _of_epoch(number["digits"])
        if day := _DATE_ONLY.fullmatch(text):
            midnight = datetime.combine(date(*_parts(day, "year", "month", "day")), time(0), zone)
            return _in_utc(midnight)
        if moment := _MOMENT.fullmatch(text):
            return _in_utc(_of_moment(moment))
    except (ValueError, OverflowError):
        return None
    return None


def _parts(match: re.Match[str], *names: str) -> Any:
    return tuple(int(match[name] or 0) for name in names)


def _of_epoch(digits: str) -> datetime | None:
    units = _UNITS.get(len(digits))
    if units is None:
        return None
    seconds, rest = divmod(int(digits), units)
    microseconds = rest * 1_000_000 // units
    return _in_utc(_EPOCH + timedelta(seconds=seconds, microseconds=microseconds))


def _of_moment(match: re.Match[str]) -> datetime:
    hour, minute, second = _parts(match, "hour", "minute", "second")
    fraction = int(((match["fraction"] or "") + "000000")[:6])
    end_of_day = (hour, minute, second, fraction) == (24, 0, 0, 0)
    clock = time(0 if end_of_day else hour, minute, second, fraction)
    day = date(*_parts(match, "year", "month", "day"))
    if end_of_day:
        day += timedelta(days=1)
    return datetime.combine(day, clock, _offset(match["offset"]))


def _offset(text: str | None) -> tzinfo:
    if text in (None, "Z", "UTC", "GMT"):
        return UTC
    assert text is not None
    digits = text[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if minutes > 59:
        raise ValueError(text)
    size = timedelta(hours=hours, minutes=minutes)
    return fixed_offset(-size if text[0] == "-" else size)


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def local_date(moment: datetime, zone: ZoneInfo) -> date:
    """Return the calendar day of a UTC instant, limited to the years 1 to 9999."""
    try:
        return moment.replace(tzinfo=UTC).astimezone(zone).date()
    except OverflowError:
        return date.min if moment.year == 1 else date.max


def read_date(text: str, zone: ZoneInfo) -> date | None:
    """Return a date column's value, or None if it is unreadable.

    A midnight without an offset is its own date. Any other instant is its local date.
    """
    found = read_timestamp(text, zone)
    if found is None:
        return None
    stated = _DATE_ONLY.match(text.strip())
    moment = _MOMENT.fullmatch(text.strip())
    if stated and (moment is None or (moment["offset"] is None and found.time() == time(0))):
        return found.date() if moment else date(*_parts(stated, "year", "month", "day"))
    return local_date(found, zone)


_TRUE = ("true", "t", "yes", "y", "1", "1.0", "on")
_FALSE = ("false", "f", "no", "n", "0", "0.0", "off")


def read_boolean(text: str) -> bool | None:
    """Return a flag, or None if it is unreadable."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    return None


def read_integer(text: str) -> int | None:
    """Return a nonnegative integer, or None if the text is not one."""
    found = re.fullmatch(r"(\d+)(\.0+)?", text.strip())
    if found is None or int(found[1]) >= 2**63:
        return None
    return int(found[1])


def read_amount(text: str) -> Decimal | None:
    """Return a nonnegative amount rounded to cents, or None if the text is not one."""
    try:
        amount = Decimal(text.strip())
    except InvalidOperation:
        return None
    if not amount.is_finite() or amount < 0 or amount >= Decimal(10) ** 16:
        return None
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def read_object(text: str) -> dict[str, Any] | None:
    """Return a JSON object, or None if the text is not one.

    NaN and infinities are not JSON. Half a surrogate pair is not text.
    """

    def refuse(word: str) -> Any:
        raise ValueError(word)

    try:
        value = json.loads(text, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


_EMAIL = re.compile(r"[\w.%+-]+@[\w-]+(\.[\w-]+)+")
EMAIL = "[email]"


def without_emails(value: Any) -> Any:
    """Return a JSON value with each address in its text and keys replaced by `[email]`."""
    if isinstance(value, str):
        return _EMAIL.sub(EMAIL, value)
    if isinstance(value, list):
        return [without_emails(item) for item in value]
    if isinstance(value, dict):
        return {_EMAIL.sub(EMAIL, key): without_emails(item) for key, item in value.items()}
    return value


def without_null_words(value: Any, null_words: Collection[str] = NULL_WORDS) -> Any:
    """Return a JSON value with each null word replaced by null."""
    if isinstance(value, str):
        return None if is_null(value, null_words) else value
    if isinstance(value, list):
        return [without_null_words(item, null_words) for item in value]
    if isinstance(value, dict):
        return {key: without_null_words(item, null_words) for key, item in value.items()}
    return value


def similar(text: str) -> str:
    """Return an id in lowercase, without surrounding spaces or a trailing `.0`."""
    return text.strip().lower().removesuffix(".0")


# ---------------------------------------------------------------- files


def files_of(folder: Path, name: str) -> list[tuple[Path, date | None]] | None:
    """Return an input's files by name, with their folder dates, or None if there is no input."""
    for stem in (name, f"seed_{name}"):
        single = folder / f"{stem}.csv"
        if single.is_file():
            return [(single, None)]
        if (folder / stem).is_dir():
            found = sorted((folder / stem).rglob("*.csv"), key=lambda path: path.as_posix())
            key = FOLDER_KEYS.get(name, "event_date=")
            return [(path, _folder_date(path, key)) for path in found]
    return None


def _folder_date(path: Path, key: str) -> date | None:
    for part in path.parts:
        if part.startswith(key):
            return date.fromisoformat(part.removeprefix(key))
    return None


def lines_of(
    folder: Path, name: str, null_words: Collection[str] = NULL_WORDS
) -> list[Line] | None:
    """Return an input's rows in file order, or None if the input does not exist.

    Raises:
        ValueError: If a file lacks a required column.
    """
    files = files_of(folder, name)
    if files is None:
        return None
    return [
        line
        for number, (path, folder_date) in enumerate(files)
        for line in _lines(folder, name, path, number, folder_date, null_words)
    ]


def _lines(
    folder: Path,
    name: str,
    path: Path,
    file_number: int,
    folder_date: date | None,
    null_words: Collection[str],
) -> Iterator[Line]:
    file = path.relative_to(folder).as_posix()
    with path.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.reader(opened)
        header = [column.strip().lower() for column in next(reader)]
        missing = [column for column in REQUIRED[name] if column not in header]
        if missing:
            raise ValueError(f"{file} lacks the required columns {', '.join(missing)}")
        for row_number, fields in enumerate(reader):
            if not fields:
                continue
            malformed = None if len(fields) == len(header) else "malformed_row_field_count"
            texts = {} if malformed else dict(zip(header, fields, strict=True))
            values = {
                column: None if is_null(text := texts.get(column), null_words) else text
                for column in COLUMNS[name]
            }
            yield Line(name, file, file_number, row_number, folder_date, values, malformed)


# ---------------------------------------------------------------- the load


def load(
    folder: Path,
    *,
    timezone: str = "UTC",
    earliest: date = EARLIEST,
    null_words: Collection[str] = NULL_WORDS,
    tiers: Sequence[str] = TIERS,
    last_day: date | None = None,
) -> Source:
    """Return the content of bronze after a first run that loads all days of a source.

    Args:
        folder: the source.
        timezone: IANA name of the time zone of the days.
        earliest: the earliest accepted date.
        null_words: the words for null.
        tiers: the subscription tiers with a rank.
        last_day: the last day of the run; by default that of the source. It is the first day of
            versions for which the source states no day. By default, these follow all others.

    Raises:
        ValueError: If a file lacks a required column, or the source has no events.
    """
    return _Load(folder, ZoneInfo(timezone), earliest, null_words, tiers, last_day).result()


@dataclass
class _Known:
    """The ids of an input's accepted rows, and the reasons of its rejected rows."""

    ids: set[str]
    rejected: Mapping[str, str]

    def problem(self, entity_id: str, noun: str) -> tuple[str, str | None] | None:
        """Return the reason and detail for an id without an accepted row."""
        if entity_id in self.ids:
            return None
        if entity_id in self.rejected:
            return f"{noun}_rejected", self.rejected[entity_id]
        return f"unknown_{noun}", self.named(entity_id)

    def named(self, entity_id: str) -> str | None:
        """Return the first known id that differs only in case, spaces or a trailing `.0`."""
        return min(
            (known for known in self.ids if similar(known) == similar(entity_id)), default=None
        )


Problem = tuple[str, str | None]
"""A rejection reason and its detail."""


_ByEntity = dict[str, list[Line]]
"""The rows of each entity, in row order."""


class _Load:
    def __init__(
        self,
        folder: Path,
        zone: ZoneInfo,
        earliest: date,
        null_words: Collection[str],
        tiers: Sequence[str],
        last_day: date | None,
    ) -> None:
        self.last_day = last_day or date.max
        self.zone, self.earliest, self.null_words, self.tiers = zone, earliest, null_words, tiers
        self.lines = {name: lines_of(folder, name, null_words) for name in INPUTS}
        if self.lines["events"] is None:
            raise ValueError("The source lacks events")
        self.source = Source()
        self.user_of_alias: dict[str, str] = {}
        self.by_id: dict[str, Row] = {}
        self.deleted_on: dict[str, date] = {}
        self.created_on: dict[str, date] = {}
        self.first_events: dict[str, datetime] = {}

    def result(self) -> Source:
        self._load_aliases()
        self._load_catalog()
        self._load_accounts()
        self._load_users()
        if self.lines["users"] is None:
            self._derive_users()
        if self.lines["accounts"] is None:
            self._derive_accounts()
        self._load_facts()
        self._load_events()
        self._set_range()
        self._derive_products()
        self._set_billing()
        for row in (*self.source.users, *self.source.accounts):
            if row["valid_from"] == date.max:
                row["valid_from"] = self.source.last_day
        return self.source

    # ------------------------------------------------------------ aliases

    def _load_aliases(self) -> None:
        """Add one row per alias, which its last row states.

        An earlier row is repeated if a later row of the alias has the same user, otherwise superseded.
        """
        name = "user_aliases"
        lines = self.lines[name]
        if lines is None:
            return
        passing, rejected = self._judge(lines, self._alias_problem)
        by_alias: dict[str, list[Line]] = {}
        for line in passing:
            by_alias.setdefault(str(line["alias_id"]), []).append(line)
        repeated = 0
        for rows in by_alias.values():
            for position, line in enumerate(rows[:-1]):
                if any(later["user_id"] == line["user_id"] for later in rows[position + 1 :]):
                    repeated += 1
                else:
                    rejected.append(Rejected(line, "superseded", None, None))
        stated = {alias: str(rows[-1]["user_id"]) for alias, rows in by_alias.items()}
        for alias, rows in by_alias.items():
            user = _end_of_chain(alias, stated)
            if user is None:
                self._fault(rows[-1], "alias_in_cycle")
            else:
                self.user_of_alias[alias] = user
            self.source.user_aliases.append(
                {
                    "alias_id": alias,
                    "user_id": stated[alias],
                    "merged_user_id": alias if user is None else user,
                    "alias_created_at": None,
                    "faults": "alias_in_cycle" if user is None else None,
                }
            )
        self._record(name, len(lines), len(by_alias), repeated, rejected)

    def _alias_problem(self, line: Line) -> Problem | None:
        for column in COLUMNS["user_aliases"]:
            if line[column] is None:
                return f"missing_{column}", None
        return None

    def _merged(self, user_id: str) -> str:
        """Return the user of an id, which is the id itself unless it is an alias."""
        return self.user_of_alias.get(user_id, user_id)

    # ------------------------------------------------------------ entities

    def _load_catalog(self) -> None:
        accepted = self._accept(
            "product_catalog", "product_id", self._catalog_problem, lambda _: _BEFORE_ANY
        )
        self.products = _Known({str(line["product_id"]) for line in accepted}, {})
        self.source.product_catalog = [self._node(line) for line in accepted]
        self.by_id = {row["product_id"]: row for row in self.source.product_catalog}
        self.has_lists = any(
            row["activation_event_types"] or row["qualifying_event_types"]
            for row in self.source.product_catalog
        )

    def _catalog_problem(self, line: Line) -> Problem | None:
        return ("missing_product_id", None) if line["product_id"] is None else None

    def _node(self, line: Line) -> Row:
        created = self._optional(line, "created_at", self._timestamp)
        tier = self._optional(
            line, "tier", lambda text: text if text in NODE_TIERS else None, "product"
        )
        return {
            "product_id": line["product_id"],
            "product_name": line["product_name"] or line["product_id"],
            "product_family_id": line["product_family_id"],
            "tier": tier,
            "parent_product_id": line["parent_product_id"],
            "is_active": self._optional(line, "is_active", read_boolean, True),
            "created_at": created,
            "created_date": None if created is None else local_date(created, self.zone),
            "product_owner": line["product_owner"] or UNKNOWN,
            "activation_event_types": _types(line["activation_event_types"]),
            "qualifying_event_types": _types(line["qualifying_event_types"]),
            "active_days": self._optional(line, "active_days", read_integer),
            "dormant_days": self._optional(line, "dormant_days", read_integer),
        }

    def _load_accounts(self) -> None:
        accepted = self._accept_versions(
            "accounts", self._account_problem, self._rows_of_accounts, self._account
        )
        self.accounts = self._known("accounts", "account_id", accepted)

    def _rows_of_accounts(self, passing: Sequence[Line]) -> tuple[_ByEntity, list[Line]]:
        return _by_id(passing, "account_id"), []

    def _account_problem(self, line: Line) -> Problem | None:
        if line["account_id"] is None:
            return "missing_account_id", None
        return self._creation_problem(line, "account_created_at")

    def _creation_problem(self, line: Line, column: str) -> Problem | None:
        text = line[column]
        if text is None:
            return f"missing_{column}", None
        created = self._timestamp(text)
        if created is None:
            return f"unreadable_{column}", None
        if local_date(created, self.zone) < self.earliest:
            return "before_earliest_event_date", None
        return None

    def _account(self, line: Line) -> Row:
        tier = line["subscription_tier"]
        if tier is not None and tier not in self.tiers:
            self._fault(line, "unknown_subscription_tier")
        created = self._timestamp(str(line["account_created_at"]))
        assert created is not None
        first_paid = self._optional(line, "first_paid_at", self._timestamp)
        return {
            "account_id": line["account_id"],
            "account_name": line["account_name"] or line["account_id"],
            "subscription_tier": tier or UNKNOWN,
            "total_seats": self._optional(line, "total_seats", read_integer),
            "account_created_at": created,
            "created_date": local_date(created, self.zone),
            "first_paid_at": first_paid,
            "first_paid_date": None if first_paid is None else local_date(first_paid, self.zone),
            "contract_renewal_date": self._optional(line, "contract_renewal_date", self._date),
            "monthly_recurring_revenue": self._optional(
                line, "monthly_recurring_revenue", read_amount, Decimal("0.00")
            ),
            "is_trial": self._optional(line, "is_trial", read_boolean, tier == self.tiers[0]),
        }

    def _load_users(self) -> None:
        """Add the versions of users. A user exists from the earliest creation under any of its ids."""
        accepted = self._accept_versions(
            "users", self._user_problem, self._rows_of_users, self._user
        )
        self.users = self._known("users", "user_id", accepted, self._merged)
        created_of_aliases: dict[str, list[datetime]] = {}
        for alias in self.source.user_aliases:
            if alias["faults"] is None and alias["alias_created_at"] is not None:
                created = created_of_aliases.setdefault(alias["merged_user_id"], [])
                created.append(alias["alias_created_at"])
        for row in self.source.users:
            user = row["user_id"]
            earliest = min([row["user_created_at"], *created_of_aliases.get(user, [])])
            row["user_created_at"] = earliest
            row["signup_date"] = self.created_on[user] = local_date(earliest, self.zone)

    def _rows_of_users(self, passing: Sequence[Line]) -> tuple[_ByEntity, list[Line]]:
        """Return each user's rows, and the rows under aliases that are set aside.

        A user's rows are those under its own id. Without any, they are those under the alias with the
        earliest creation, of several the alias that is the smallest text. Only a row that breaks no
        rule counts, both as a row of the user and for the creation under an alias.
        """
        by_id = _by_id(passing, "user_id")
        for alias in self.source.user_aliases:
            # An id that is not replaced has its own rows.
            rows = by_id.get(alias["alias_id"], []) if alias["faults"] is None else []
            alias["alias_created_at"] = min(map(self._created, rows), default=None)
        by_user: _ByEntity = {}
        for user in dict.fromkeys(map(self._merged, by_id)):
            if user in by_id:
                by_user[user] = by_id[user]
                continue
            candidates = [
                (alias["alias_created_at"], alias["alias_id"])
                for alias in self.source.user_aliases
                if self._merged(alias["alias_id"]) == user and alias["alias_id"] in by_id
            ]
            _, chosen = min(candidates)
            by_user[user] = by_id[chosen]
        kept = {id(line) for rows in by_user.values() for line in rows}
        return by_user, [line for line in passing if id(line) not in kept]

    def _created(self, line: Line) -> datetime:
        created = self._timestamp(str(line["user_created_at"]))
        assert created is not None
        return created

    def _user(self, line: Line) -> Row:
        """Return a user's values. A user without an account gets one under the user's id."""
        created = self._created(line)
        stated = str(line["user_id"])
        user = self._merged(stated)
        return {
            "user_id": user,
            "alias_id": None if user == stated else stated,
            "email": line["email"],
            "account_id": line["account_id"] or user,
            **{
                name: line[name] or UNKNOWN
                for name in ("country", "plan_type", "acquisition_source")
            },
            "user_created_at": created,
            "signup_date": local_date(created, self.zone),
        }

    def _user_problem(self, line: Line) -> Problem | None:
        if line["user_id"] is None:
            return "missing_user_id", None
        if problem := self._creation_problem(line, "user_created_at"):
            return problem
        if self.lines["accounts"] is None:
            return None
        account = line["account_id"]
        if account is None:
            return "missing_account_id", None
        return self.accounts.problem(account, "account")

    def _derive_users(self) -> None:
        """Add one user per entity of type user, created at its first accepted event.

        An event counts if it breaks no rule other than those about users, and is not superseded.
        """
        self.users = _Known(set(), {})
        lines = self.lines["events"] or []
        passing = [line for line in lines if self._event_problem(line, of_users=False) is None]
        accepted, _, _ = _one_per_id(passing, "event_id", self._received, self._content)
        first: dict[str, datetime] = {}
        for line in accepted:
            if (line["entity_type"] or "user") == "user":
                user = self._merged(str(line["entity_id"]))
                at = self._timestamp(str(line["timestamp"]))
                assert at is not None
                first[user] = min(first.get(user, at), at)
        self.users = _Known(set(first), {})
        for user, at in first.items():
            self.created_on[user] = local_date(at, self.zone)
            self.source.users.append(
                {
                    "user_id": user,
                    "alias_id": None,
                    "valid_from": self.last_day,
                    "email": None,
                    "account_id": user,
                    "user_created_at": at,
                    "signup_date": self.created_on[user],
                    **dict.fromkeys(("country", "plan_type", "acquisition_source"), UNKNOWN),
                }
            )

    def _derive_accounts(self) -> None:
        """Add one account per account id in users, created with its first user."""
        first: dict[str, datetime] = {}
        for row in self.source.users:
            at = row["user_created_at"]
            first[row["account_id"]] = min(first.get(row["account_id"], at), at)
        self.accounts = _Known(set(first), {})
        self.source.accounts = [
            {
                "account_id": account,
                "valid_from": self.last_day,
                "account_name": account,
                "subscription_tier": UNKNOWN,
                "total_seats": None,
                "account_created_at": at,
                "created_date": local_date(at, self.zone),
                "first_paid_at": None,
                "first_paid_date": None,
                "contract_renewal_date": None,
                "monthly_recurring_revenue": Decimal("0.00"),
                "is_trial": False,
            }
            for account, at in first.items()
        ]

    def _set_billing(self) -> None:
        """If there are no accounts and no facts about accounts, all accounts pay from creation."""
        if self.lines["accounts"] is not None:
            return
        if any(row["entity_type"] == "account" for row in self.source.subscription_events):
            return
        for row in self.source.accounts:
            row["first_paid_at"] = row["account_created_at"]
            row["first_paid_date"] = row["created_date"]

    def _derive_products(self) -> None:
        """Without a catalog, add a product for each product named; give each node a first day.

        Without a product in any row, all events are of the product `product`.
        """
        if self.lines["product_catalog"] is None:
            lines = (*(self.lines["events"] or ()), *(self.lines["subscription_events"] or ()))
            named = sorted({str(line["product_id"]) for line in lines if line["product_id"]})
            if not named:
                named = ["product"]
                for row in self.source.events:
                    row["product_id"] = "product"
            self.source.product_catalog = [
                {
                    "product_id": product,
                    "product_name": product,
                    "product_family_id": None,
                    "tier": "product",
                    "parent_product_id": None,
                    "is_active": True,
                    "created_at": None,
                    "created_date": None,
                    "product_owner": UNKNOWN,
                    "activation_event_types": (),
                    "qualifying_event_types": (),
                    "active_days": None,
                    "dormant_days": None,
                }
                for product in named
            ]
        for row in self.source.product_catalog:
            row["created_date"] = row["created_date"] or self.source.first_day

    # ------------------------------------------------------------ events

    def _load_facts(self) -> None:
        name = "subscription_events"
        accepted = self._accept(name, "event_id", self._event_problem, self._received)
        self.source.subscription_events = [self._fact(line) for line in accepted]
        for row in self.source.subscription_events:
            if row["event_type"] in USER_FACTS:
                on = self.deleted_on.get(row["entity_id"], row["event_date"])
                self.deleted_on[row["entity_id"]] = min(on, row["event_date"])

    def _load_events(self) -> None:
        accepted = self._accept("events", "event_id", self._event_problem, self._received)
        self.source.events = [self._event(line) for line in accepted]

    def _received(self, line: Line) -> datetime:
        text = line["received_at"]
        read = None if text is None else self._timestamp(text)
        return _BEFORE_ANY if read is None else read

    def _entity_type(self, line: Line) -> str:
        if line["entity_type"] is not None:
            return line["entity_type"]
        if line.input_name == "events" or line["event_type"] in USER_FACTS:
            return "user"
        return "account"

    def _event_problem(self, line: Line, *, of_users: bool = True) -> Problem | None:
        for column in ("entity_id", "event_type", "timestamp"):
            if line[column] is None:
                return f"missing_{column}", None
        entity_type = self._entity_type(line)
        if entity_type not in ENTITY_TYPES:
            return "unknown_entity_type", None
        if (line["location"] or "api") not in LOCATIONS:
            return "unknown_location", None
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", str(line["event_type"])):
            return "invalid_event_type", None
        if line["metadata"] is not None and read_object(line["metadata"]) is None:
            return "unreadable_metadata", None
        at = self._timestamp(str(line["timestamp"]))
        if at is None:
            return "unreadable_timestamp", None
        event_date = local_date(at, self.zone)
        if event_date < self.earliest:
            return "before_earliest_event_date", None
        if line.folder_date is not None and event_date != line.folder_date:
            return "not_on_date_of_folder", None
        if of_users and (problem := self._entity_problem(line, entity_type, event_date)):
            return problem
        product = line["product_id"]
        has_catalog = self.lines["product_catalog"] is not None
        if has_catalog and product is not None and product not in self.products.ids:
            return "unknown_product", self.products.named(product)
        if line.input_name == "subscription_events":
            types = {"account": ACCOUNT_FACTS, "user": USER_FACTS}.get(entity_type, ())
            if line["event_type"] not in types:
                return "unknown_subscription_event", None
        return None

    def _entity_problem(self, line: Line, entity_type: str, event_date: date) -> Problem | None:
        """Return what is wrong with a row's entity.

        A deletion under an alias is rejected as such before its user is looked up.
        """
        entity = str(line["entity_id"])
        if entity_type == "account":
            return self.accounts.problem(entity, "account")
        if entity_type != "user":
            return None
        is_fact = line.input_name == "subscription_events"
        if is_fact and line["event_type"] in USER_FACTS and entity in self.user_of_alias:
            return "merged", None
        entity = self._merged(entity)
        if problem := self.users.problem(entity, "user"):
            return problem
        if event_date < self.created_on[entity]:
            return "before_user_creation", None
        if not is_fact and event_date > self.deleted_on.get(entity, date.max):
            return "after_user_deletion", None
        return None

    def _common(self, line: Line) -> Row:
        at = self._timestamp(str(line["timestamp"]))
        assert at is not None
        metadata = None if line["metadata"] is None else read_object(line["metadata"])
        target = None if metadata is None else _id_of(metadata.get("target_user_id"))
        if metadata is not None and target in self.user_of_alias:
            # Before addresses are replaced, since an alias may be an address.
            metadata["target_user_id"] = self.user_of_alias[target]
        if without_emails(metadata) != metadata:
            self._fault(line, "email_in_metadata")
        entity, entity_type = str(line["entity_id"]), self._entity_type(line)
        return {
            **{name: line[name] for name in ("event_id", "event_type", "session_id", "product_id")},
            "entity_id": self._merged(entity) if entity_type == "user" else entity,
            "entity_type": entity_type,
            "event_timestamp": at,
            "event_date": local_date(at, self.zone),
            "location": line["location"] or "api",
            "metadata": without_null_words(without_emails(metadata), self.null_words),
            "received_at": self._optional(line, "received_at", self._timestamp),
        }

    def _event(self, line: Line) -> Row:
        row = self._common(line)
        given = [
            self._optional(line, name, read_boolean)
            for name in ("is_qualifying_event", "is_activation_event")
        ]
        qualifying, activation = self._flags(line, given[0], given[1])
        return {**row, "is_qualifying_event": qualifying, "is_activation_event": activation}

    def _flags(
        self, line: Line, own_qualifying: bool | None, own_activation: bool | None
    ) -> tuple[bool, bool]:
        """Return whether an event qualifies and whether it activates, and record its faults."""
        event_type = line["event_type"]
        nodes = self._applicable(line["product_id"])
        activates = any(event_type in node["activation_event_types"] for node in nodes)
        qualifies = activates or any(event_type in node["qualifying_event_types"] for node in nodes)
        if line["product_id"] is None and self._is_listed(event_type):
            self._fault(line, "event_without_product")
        if qualifies:
            if own_qualifying is False or own_activation not in (None, activates):
                self._fault(line, "flag_differs_from_catalog")
            return True, activates
        if self.has_lists and (own_qualifying or own_activation):
            self._fault(line, "qualifying_type_in_no_list")
        if own_qualifying is None and own_activation is None and not self.has_lists:
            self._fault(line, "qualifies_by_default")
            return True, False
        return bool(own_qualifying or own_activation), bool(own_activation)

    def _is_listed(self, event_type: str | None) -> bool:
        return any(
            event_type in (*node["activation_event_types"], *node["qualifying_event_types"])
            for node in self.by_id.values()
        )

    def _applicable(self, product: str | None) -> list[Row]:
        """Return a node and its ancestors, or all nodes if the event names none."""
        if product is None:
            return list(self.by_id.values())
        found: list[Row] = []
        node = self.by_id.get(product)
        while node is not None and node not in found:
            found.append(node)
            node = self.by_id.get(node["parent_product_id"])
        return found

    def _fact(self, line: Line) -> Row:
        row = self._common(line)
        values = row["metadata"] or {}
        tier = values.get("subscription_tier")
        if tier is not None and tier not in self.tiers:
            self._fault(line, "unknown_subscription_tier")
        row["subscription_tier"] = tier
        row["subscription_id"] = _id_of(values.get("subscription_id"))
        currency = values.get("currency")
        row["currency"] = None if currency is None else str(currency).strip().upper()
        readers: Mapping[str, Callable[[str], Any]] = {
            "total_seats": read_integer,
            "monthly_recurring_revenue": read_amount,
            "contract_renewal_date": self._date,
            "effective_date": self._date,
            "grace_until": self._date,
        }
        for name, read in readers.items():
            value = values.get(name)
            plain = not isinstance(value, (bool, list, dict))
            found = read(str(value)) if value is not None and plain else None
            if value is not None and found is None:
                self._fault(line, f"unreadable_{name}")
            row[name] = found
        return row

    # ------------------------------------------------------------ acceptance

    def _accept_versions(
        self,
        name: str,
        problem_of: Callable[[Line], Problem | None],
        rows_of: Callable[[Sequence[Line]], tuple[_ByEntity, list[Line]]],
        read: Callable[[Line], Row],
    ) -> list[Line]:
        """Add the versions of an input's entities, record all other rows, and return the versions.

        `rows_of` returns the rows of each entity, and those that are set aside.
        A row is a version if it wins its day and differs from the version before in any value, as
        filled in. The table lacks a version that differs only in what is the same in all versions of
        an entity. Faults are those of each entity's latest version in the table.
        """
        lines = self.lines[name]
        if lines is None:
            return []
        passing, rejected = self._judge(lines, problem_of)
        by_entity, merged = rows_of(passing)
        rejected += [Rejected(line, "merged", None, None) for line in merged]
        accepted: list[Line] = []
        repeated = 0
        for rows in by_entity.values():
            settled = _settle([self._candidate(line, read) for line in rows])
            accepted += [candidate.line for candidate in settled.versions]
            repeated += settled.repeated
            rejected += [
                Rejected(candidate.line, "superseded", None, None)
                for candidate in settled.superseded
            ]
            held = _held(name, settled.versions)
            getattr(self.source, name).extend(row for row, _ in held)
            self.source.faults += held[-1][1]
        self._record(name, len(lines), len(accepted), repeated, rejected)
        return accepted

    def _candidate(self, line: Line, read: Callable[[Line], Row]) -> Candidate:
        known = len(self.source.faults)
        values = read(line)
        valid_from = self._optional(line, "valid_from", self._date)
        updated_at = self._optional(line, "updated_at", self._timestamp)
        if valid_from is None and updated_at is not None:
            valid_from = local_date(updated_at, self.zone)
        if valid_from is None:
            valid_from = line.folder_date
        if valid_from is None:
            valid_from = self.last_day
        faults = self.source.faults[known:]
        del self.source.faults[known:]
        return Candidate(line, values, valid_from, updated_at or _BEFORE_ANY, faults)

    def _judge(
        self, lines: Sequence[Line], problem_of: Callable[[Line], Problem | None]
    ) -> tuple[list[Line], list[Rejected]]:
        """Return the rows that break no rule, and the other rows.

        A row that breaks a rule is rejected for it, whether or not it is repeated.
        """
        passing = []
        rejected = []
        for line in lines:
            problem = (line.malformed, None) if line.malformed else problem_of(line)
            if problem is None:
                passing.append(line)
            else:
                rejected.append(Rejected(line, *problem, self._date_of(line)))
        return passing, rejected

    def _record(
        self, name: str, read: int, accepted: int, repeated: int, rejected: list[Rejected]
    ) -> None:
        rejected.sort(key=lambda found: (found.line.file_number, found.line.row_number))
        self.source.rejected += rejected
        self.source.counts[name] = Counts(read, accepted, repeated, len(rejected))

    def _accept(
        self,
        name: str,
        key: str,
        problem_of: Callable[[Line], Problem | None],
        received: Callable[[Line], datetime],
    ) -> list[Line]:
        """Return an input's accepted rows in order, and record all others."""
        lines = self.lines[name]
        if lines is None:
            return []
        passing, rejected = self._judge(lines, problem_of)
        accepted, superseded, repeated = _one_per_id(passing, key, received, self._content)
        rejected += [Rejected(line, "superseded", None, self._date_of(line)) for line in superseded]
        self._record(name, len(lines), len(accepted), repeated, rejected)
        return accepted

    def _content(self, line: Line) -> Content:
        """Return all columns as read, except for received_at. Unreadable values are null."""
        readers: dict[str, Callable[[str], Any]] = {
            **dict.fromkeys(("timestamp", "created_at"), self._timestamp),
            **dict.fromkeys(
                ("is_qualifying_event", "is_activation_event", "is_active"), read_boolean
            ),
            **dict.fromkeys(("active_days", "dormant_days"), read_integer),
        }
        return tuple(
            None if (text := line[column]) is None else readers.get(column, str)(text)
            for column in COLUMNS[line.input_name]
            if column != "received_at"
        )

    def _date_of(self, line: Line) -> date | None:
        text = line["timestamp"]
        at = None if text is None else self._timestamp(text)
        return None if at is None else local_date(at, self.zone)

    def _known(
        self,
        name: str,
        key: str,
        accepted: Iterable[Line],
        entity_of: Callable[[str], str] = str,
    ) -> _Known:
        """Return an input's entities. If one has several reasons, the first by name counts.

        A user whose rows are all under aliases and rejected has the reasons of these.
        """
        ids = {entity_of(str(line[key])) for line in accepted}
        rejected = [
            found
            for found in self.source.rejected
            if found.line.input_name == name and found.line[key] is not None
        ]
        rejected.sort(key=lambda found: found.reason, reverse=True)
        reasons = {entity_of(str(found.line[key])): found.reason for found in rejected}
        return _Known(ids, reasons)

    # ------------------------------------------------------------ helpers

    def _timestamp(self, text: str) -> datetime | None:
        return read_timestamp(text, self.zone)

    def _date(self, text: str) -> date | None:
        return read_date(text, self.zone)

    def _fault(self, line: Line, fault: str) -> None:
        self.source.faults.append(Fault(line, fault))

    def _optional(
        self, line: Line, column: str, read: Callable[[str], Any], default: Any = None
    ) -> Any:
        """Return an optional value. An unreadable value is a fault and counts as missing."""
        text = line[column]
        if text is None:
            return default
        found = read(text)
        if found is None:
            self._fault(line, f"unreadable_{column}")
            return default
        return found

    def _set_range(self) -> None:
        facts = [
            row["event_date"] for row in (*self.source.events, *self.source.subscription_events)
        ]
        entities = [
            *(row["signup_date"] for row in self.source.users),
            *(row["created_date"] for row in self.source.accounts),
        ]
        self.source.first_day = min(facts, default=None)
        self.source.last_day = max((*facts, *entities), default=None) if facts else None


def _types(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split("|") if part.strip())


def _by_id(lines: Iterable[Line], key: str) -> _ByEntity:
    found: _ByEntity = {}
    for line in lines:
        found.setdefault(str(line[key]), []).append(line)
    return found


def _end_of_chain(alias: str, stated: Mapping[str, str]) -> str | None:
    """Return the id to which a chain of aliases leads, or None if it leads into a cycle."""
    seen = {alias}
    user = stated[alias]
    while user in stated:
        if user in seen:
            return None
        seen.add(user)
        user = stated[user]
    return user


def _id_of(value: Any) -> str | None:
    """Return the id that a value of metadata is: a text, or the digits of an integer."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


class _Settled(NamedTuple):
    """The rows of an entity: its versions in order, those that lost their day, and the repeated."""

    versions: list[Candidate]
    superseded: list[Candidate]
    repeated: int


def _settle(candidates: Iterable[Candidate]) -> _Settled:
    """Find the rows of an entity that are versions.

    Of the rows for a day, the last one wins. Another row is repeated if a later row for the day has the
    same values, otherwise superseded. A winner with the values of the version before is repeated.
    """
    by_day: dict[date, list[Candidate]] = {}
    for candidate in candidates:
        by_day.setdefault(candidate.valid_from, []).append(candidate)
    versions: list[Candidate] = []
    superseded: list[Candidate] = []
    repeated = 0
    for day in sorted(by_day):
        rows = sorted(by_day[day], key=lambda candidate: candidate.place)
        winner = rows[-1]
        for position, row in enumerate(rows[:-1]):
            if any(later.values == row.values for later in rows[position + 1 :]):
                repeated += 1
            else:
                superseded.append(row)
        if versions and versions[-1].values == winner.values:
            repeated += 1
        else:
            versions.append(winner)
    return _Settled(versions, superseded, repeated)


def _held(name: str, versions: Sequence[Candidate]) -> list[tuple[Row, list[Fault]]]:
    """Return the rows of the bronze table for the versions of an entity, with their faults."""
    same = {column: versions[0].values[column] for column in CREATION[name]}
    if name == "accounts":
        stated = [v.values for v in versions if v.values["first_paid_at"] is not None]
        latest = stated[-1] if stated else versions[-1].values
        same.update({column: latest[column] for column in FIRST_PAYMENT})
    held: list[tuple[Row, list[Fault]]] = []
    before: Row | None = None
    for version in versions:
        values = {**version.values, **same}
        if values != before:
            held.append(({**values, "valid_from": version.valid_from}, version.faults))
        before = values
    return held


def _one_per_id(
    lines: Sequence[Line],
    key: str,
    received: Callable[[Line], datetime],
    content_of: Callable[[Line], Content],
) -> tuple[list[Line], list[Line], int]:
    """Return the accepted rows, the superseded rows and the number of repeated rows.

    Of the rows with one id and the same content, the one that arrived last represents all. Of the
    rows with one id that differ, the one that arrived last is accepted. Rows without an id are
    identified by their content.
    """

    def arrival(line: Line) -> tuple[datetime, int, int]:
        return received(line), line.file_number, line.row_number

    latest: dict[tuple[str | None, Content], Line] = {}
    for line in lines:
        content = content_of(line)
        other = latest.get((line[key], content))
        if other is None or arrival(line) > arrival(other):
            latest[line[key], content] = line
    winners: dict[object, Line] = {}
    for (identity, content), line in latest.items():
        of = (identity, None) if identity is not None else (None, content)
        if of not in winners or arrival(line) > arrival(winners[of]):
            winners[of] = line
    accepted = {id(line) for line in winners.values()}
    distinct = sorted(latest.values(), key=lambda line: (line.file_number, line.row_number))
    return (
        [line for line in distinct if id(line) in accepted],
        [line for line in distinct if id(line) not in accepted],
        len(lines) - len(latest),
    )
