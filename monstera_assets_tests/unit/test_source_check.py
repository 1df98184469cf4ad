"""The findings of `monstera check` about days and the time zone, with values computed by hand."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from monstera_assets.operations.source_check import about_days, plausible_night
from monstera_assets.settings import Settings

MONDAY = date(2025, 6, 2)
WEEKS = 5
TODAY = date(2025, 12, 1)


def day(number: int) -> date:
    return MONDAY + timedelta(days=number)


def found(days: dict[int, int], today: date = TODAY) -> list[tuple[str, str, int | None]]:
    """Return kind, message and rows of the findings, for the number of events by day."""
    events = {day(number): rows for number, rows in sorted(days.items())}
    findings = about_days(events, Settings(), today)
    return [(each.kind, each.message, each.rows) for each in findings]


def daily(rows: int = 40) -> dict[int, int]:
    return dict.fromkeys(range(7 * WEEKS), rows)


def test_no_day_is_missing() -> None:
    assert found(daily()) == found({}) == found({0: 1}) == []


def test_days_without_events_are_grouped_the_longest_run_first() -> None:
    days = daily()
    for number in (3, 16, 17, 18):
        del days[number]
    kind = "days_without_events"
    text = "There are no events for {}. The same weekdays usually have at least 40 events."
    assert found(days) == [
        (kind, text.format("2025-06-18 to 2025-06-20"), None),
        (kind, text.format("2025-06-05"), None),
    ]


@pytest.mark.parametrize("rows", [29, 1])
def test_few_events_leave_days_empty_by_chance(rows: int) -> None:
    days = daily(rows)
    del days[16]
    assert found(days) == []
    assert len(found({**dict.fromkeys(days, 30)})) == 1


def test_weekdays_that_usually_have_no_events_are_not_missing() -> None:
    assert found({number: 40 for number in range(7 * WEEKS) if number % 7 < 5}) == []


def test_a_last_day_far_from_the_others() -> None:
    """The gap is not also reported as days without events."""
    [(kind, message, rows)] = found({**daily(), 34 + 15: 1})
    assert (kind, rows) == ("isolated_last_day", 1)
    assert message == (
        "The last day with events, 2025-07-21 (events: 1), is 15 days after the previous day with"
        " events."
    )


def test_fourteen_days_are_not_too_far() -> None:
    [(kind, message, _)] = found({**daily(), 34 + 14: 1})
    assert kind == "days_without_events"
    assert "2025-07-07 to 2025-07-19" in message


def test_a_first_day_far_from_the_others() -> None:
    [(kind, message, rows)] = found({**daily(), -500: 2})
    assert (kind, rows) == ("isolated_first_day", 2)
    assert "2024-01-19 (events: 2), is 500 days before the next day" in message


def test_events_of_tomorrow_and_not_of_today() -> None:
    assert found(daily(), today=day(34)) == []
    [(kind, message, rows)] = found(daily(), today=day(32))
    assert (kind, rows) == ("future_events", 80)
    assert message == "80 events are dated after today. The latest date is 2025-07-06."


def by_hour(quiet_from: int, quiet: int, each: int = 63, in_quiet: int = 0) -> list[int]:
    """Return the events of 24 hours, of which `quiet` in sequence have `in_quiet`."""
    return [in_quiet if (hour - quiet_from) % 24 < quiet else each for hour in range(24)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # Four stretches of 0:00 to 8:00 are equally quiet; the third begins at 2:00.
        (by_hour(0, 8), (2, 0, "likely")),
        (by_hour(8, 8), (10, 0, "likely")),
        (by_hour(20, 8), (22, 0, "likely")),
        (by_hour(22, 5, each=50, in_quiet=10), (22, 0.05, "likely")),  # 50 of 1,000
        (by_hour(22, 5, each=50, in_quiet=21), (22, 105 / 1055, "possible")),
        (by_hour(22, 5, each=50, in_quiet=22), None),  # 110 of 1,060
        (by_hour(0, 8, each=62), None),  # 992 events
        ([100] * 24, None),
        ([5_000] + [0] * 23, None),  # dates without a time
        (by_hour(0, 17, each=1_000), None),  # 7 active hours
        (by_hour(0, 16, each=1_000), (6, 0, "likely")),
    ],
)
def test_plausible_night(events: list[int], expected: tuple[int, float, str] | None) -> None:
    night = plausible_night(events)
    assert night == expected
