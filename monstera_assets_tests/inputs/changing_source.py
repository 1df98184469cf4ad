"""A source on disk whose rows can be changed, with events in a single file or one file per day."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from random import Random

from monstera_assets_tests.inputs.random_source import write_random_source

Row = dict[str, str]


class ChangingSource:
    """The files of a random source, and its event rows in memory.

    Args:
        folder: target folder; must not exist.
        seed: seed of the source and of its changes.
        by_day: whether events are laid out by day.
        users: number of users.
    """

    def __init__(self, folder: Path, seed: int, *, by_day: bool, users: int = 12) -> None:
        write_random_source(folder, seed, users=users, accounts=4)
        self.folder, self.by_day, self.random = folder, by_day, Random(seed)  # noqa: S311
        self.events = self.rows("events")
        self.new_ids = 0
        self.changed_from = ""
        self.write_events()

    @property
    def days(self) -> list[str]:
        """The days with events."""
        return sorted({_day(row) for row in self.events})

    def rows(self, name: str) -> list[Row]:
        """Return the rows of an input's single file."""
        with (self.folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def write(self, name: str, rows: list[Row]) -> None:
        """Replace an input's single file."""
        _write(self.folder / f"{name}.csv", rows)

    def write_events(self) -> None:
        """Write the events in memory to disk."""
        if not self.by_day:
            self.write("events", self.events)
            return
        (self.folder / "events.csv").unlink(missing_ok=True)
        by_day: dict[str, list[Row]] = {}
        for row in self.events:
            by_day.setdefault(_day(row), []).append(row)
        root = self.folder / "events"
        for path in list(root.glob("event_date=*")):
            if path.name.removeprefix("event_date=") not in by_day:
                shutil.rmtree(path)
        for day, rows in by_day.items():
            path = root / f"event_date={day}" / "part.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, rows)

    def add_late_event(self, **values: str) -> Row:
        """Add a copy of a random event under a new id, with these values, in memory."""
        like = self._some_event()
        self.new_ids += 1
        row = {**like, "event_id": f"late{self.new_ids}", **values}
        self.events.append(row)
        return row

    def add_user(self, created: date, **values: str) -> None:
        """Add a user like an existing one, who signs up and has an event on a day."""
        users = self.rows("users")
        known = next(user for user in users if user["user_created_at"][:10] < str(created))
        self.new_ids += 1
        user = {
            **known,
            "user_id": f"new{self.new_ids}",
            "user_created_at": f"{created} 08:00:00",
            **values,
        }
        self.write("users", [*users, user])
        self.add_late_event(entity_id=user["user_id"], timestamp=f"{created} 09:00:00")
        self.write_events()

    def add_billing(self, on: date) -> None:
        """Add an event that starts an account's subscription."""
        rows = self.rows("subscription_events")
        account = self.rows("accounts")[0]["account_id"]
        self.new_ids += 1
        started = {
            "event_id": f"billing{self.new_ids}",
            "entity_id": account,
            "entity_type": "account",
            "event_type": "subscription_started",
            "timestamp": f"{on} 10:00:00",
            "metadata": '{"monthly_recurring_revenue": 75, "total_seats": 3}',
        }
        self.write("subscription_events", [*rows, {**rows[0], **started}])

    def change_from(self, first: date) -> None:
        """Restrict changes to events from `first`."""
        self.changed_from = str(first)

    def drop_days_after(self, last: date) -> date:
        """Drop the events after a day and return the day."""
        self.events = [row for row in self.events if _day(row) <= str(last)]
        self.write_events()
        return last

    def change(self) -> None:
        """Change the events in a random, realistic way."""
        event = self._some_event()
        kind = self.random.choice(
            ["add", "edit", "remove", "vanish", "repeat", "unrepeat", "break", "stranger"]
        )
        if kind == "add":
            self.add_late_event()
        elif kind == "edit":
            event["location"] = self.random.choice(["web_app", "api", "the moon"])
        elif kind == "remove":
            self.events.remove(event)
        elif kind == "vanish":
            day = _day(event)
            self.events = [row for row in self.events if _day(row) != day]
        elif kind == "repeat":
            # The new event is on the same day or another.
            self.add_late_event(event_id=event["event_id"])
        elif kind == "unrepeat":
            times: dict[str, int] = {}
            for row in self.events:
                times[row["event_id"]] = times.get(row["event_id"], 0) + 1
            repeated = [
                row
                for row in self.events
                if times[row["event_id"]] > 1 and _day(row) >= self.changed_from
            ]
            if repeated:
                self.events.remove(self.random.choice(repeated))
        elif kind == "break":
            event["timestamp"] = event["timestamp"] if self.by_day else "some day"
            event["event_type"] = "NOT A TYPE"
        elif kind == "stranger":
            self.add_late_event(entity_id="nobody")

    def _some_event(self) -> Row:
        return self.random.choice([row for row in self.events if _day(row) >= self.changed_from])


def _day(row: Mapping[str, str]) -> str:
    return row["timestamp"][:10]


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
