"""Tests of the source folder of a synthetic company: its bytes, completeness and contents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from monstera_assets.cli import main
from monstera_assets.source.layout import FileFormat
from monstera_assets.synthetic import writer
from monstera_assets.synthetic.anomalies import ChurnSpike, DoubledLoad, TrackingOutage
from monstera_assets.synthetic.catalog import catalog_rows
from monstera_assets.synthetic.company import Company
from monstera_assets.synthetic.errors import GenerationError
from monstera_assets.synthetic.simulation import Simulation
from monstera_assets.synthetic.writer import generate

SMALL = Company(users=120, days=60, seed=3)
INPUTS = ("users", "accounts", "subscription_events", "product_catalog", "workflows")
Row = tuple[object, ...]


def digests(folder: Path) -> Mapping[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(folder: Path, name: str, kind: FileFormat = FileFormat.PARQUET) -> list[Row]:
    """Return the rows of an input in the order in which they were written, and events by day."""
    file = f"events/*/*.{kind}" if name == "events" else f"{name}.{kind}"
    read = "read_parquet" if kind is FileFormat.PARQUET else "read_csv"
    columns = "* EXCLUDE (event_date)" if name == "events" else "*"
    options = ", hive_partitioning = true" if name == "events" else ""
    with duckdb.connect(config={"threads": 1}) as connection:
        return connection.execute(
            f"SELECT {columns} FROM {read}('{folder / file}'{options})"
        ).fetchall()


def command(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(main, ["generate", *map(str, arguments)])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(SMALL, tmp_path_factory.mktemp("small") / "source", with_truth=True).folder


def test_the_same_arguments_give_the_same_bytes(small: Path, tmp_path: Path) -> None:
    again = generate(SMALL, tmp_path / "again", with_truth=True)
    assert digests(again.folder) == digests(small)


def test_another_seed_is_another_company(small: Path, tmp_path: Path) -> None:
    other = generate(Company(users=120, days=60, seed=4), tmp_path / "other").folder
    assert all(rows(small, name) != rows(other, name) for name in ("users", "accounts", "events"))
    assert rows(small, "product_catalog") == rows(other, "product_catalog")


def test_until_gives_the_same_company_up_to_a_day(small: Path, tmp_path: Path) -> None:
    until = SMALL.end - timedelta(days=20)
    part = Company(users=120, days=60, seed=3, until=until)
    early = generate(part, tmp_path / "early", with_truth=True).folder
    whole, beginning = digests(small), digests(early)
    days = {f"event_date={SMALL.date_of(day)}" for day in range(40)}
    assert {path.parent.name for path in early.glob("events/*/*")} == days
    for name, digest in beginning.items():
        if name.startswith("events/"):
            assert whole[name] == digest
    billing = rows(small, "subscription_events")
    assert rows(early, "subscription_events") == [
        row for row in billing if str(row[4])[:10] <= str(until)
    ]
    people = {row[:5] + row[6:] for row in rows(small, "users") if str(row[3])[:10] <= str(until)}
    assert {row[:5] + row[6:] for row in rows(early, "users")} == people  # plans may change later


def test_requested_events_do_not_depend_on_until(tmp_path: Path) -> None:
    whole = generate(Company(users=50, days=40, events=3_000), tmp_path / "whole").folder
    until = Company(users=50, days=40, events=3_000, until=date(2025, 6, 10))
    early = generate(until, tmp_path / "early").folder
    expected = [row for row in rows(whole, "events") if str(row[4])[:10] <= "2025-06-10"]
    assert rows(early, "events") == expected
    assert expected


def test_csv_and_parquet_hold_the_same_rows(small: Path, tmp_path: Path) -> None:
    assert not command(
        "--users", 120, "--days", 60, "--seed", 3, "--format", "csv", "--output", tmp_path / "csv"
    ).exit_code
    texts = duckdb.connect(config={"threads": 1})
    for name in (*INPUTS, "events"):
        parquet = "events/*/*.parquet" if name == "events" else f"{name}.parquet"
        csv = "events/*/*.csv" if name == "events" else f"{name}.csv"
        left = texts.execute(
            f"SELECT COLUMNS(*)::VARCHAR FROM read_parquet('{small / parquet}')"
        ).fetchall()
        right = texts.execute(
            f"SELECT COLUMNS(*)::VARCHAR FROM read_csv('{tmp_path / 'csv' / csv}',"
            " all_varchar = true, header = true, quote = '\"', escape = '\"')"
        ).fetchall()
        assert left == right, name
        assert left
    assert len(list(tmp_path.glob("csv/events/*/*"))) == 60


def test_the_truth_is_a_folder_of_the_source(small: Path) -> None:
    with duckdb.connect() as connection:
        days, states, low, high = connection.execute(
            "SELECT count(DISTINCT date), count(DISTINCT hidden_state),"
            " min(no_use_30_days_probability), max(no_use_30_days_probability)"
            f" FROM '{small / 'truth' / 'user_hazards.parquet'}'"
        ).fetchall()[0]
    assert (days, states) == (8, 3)  # every 7th of 60 days
    assert 0 < low < high <= 1


def test_ids_are_synthetic(small: Path) -> None:
    for user_id, email, *_ in rows(small, "users"):
        assert email == f"{user_id}@example.invalid"
    assert [row[1] for row in rows(small, "accounts")][:2] == ["Account 00001", "Account 00002"]


def test_a_doubled_day_has_every_event_twice(small: Path, tmp_path: Path) -> None:
    twice = SMALL.end - timedelta(days=5)
    company = Company(users=120, days=60, seed=3, anomalies=(DoubledLoad(twice),))
    folder = generate(company, tmp_path / "doubled").folder
    of_day = [row for row in rows(folder, "events") if str(row[4])[:10] == str(twice)]
    first = [row for row in of_day if str(row[0]).startswith("e")]
    second = [row for row in of_day if str(row[0]).startswith("r")]
    assert [row[1:] for row in first] == [row[1:] for row in second]
    assert len({row[0] for row in of_day}) == len(of_day) > 0
    others = [row for row in rows(folder, "events") if row not in second]
    assert others == rows(small, "events")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    done = command("--users", 20, "--days", 3, "--output", tmp_path)
    assert done.exit_code == 2
    assert "is not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
    file = tmp_path / "kept.txt"
    assert "is a file" in command("--output", file).stderr
    assert file.read_text() == "kept"


def test_an_empty_folder_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    done = command("--users", 20, "--days", 3, "--output", tmp_path / "new")
    assert done.exit_code == 0, done.output
    assert "users  20 rows" in done.output
    assert f"Source: {tmp_path / 'new'}, 2025-06-28 to 2025-06-30" in done.output


def test_a_failed_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "catalog_rows", full)
    done = command("--users", 20, "--days", 3, "--output", tmp_path / "new")
    assert done.exit_code == 2
    assert "No space left on device" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "catalog_rows", interrupted)
    done = command("--users", 20, "--days", 3, "--output", tmp_path / "new")
    assert (done.exit_code, done.stderr) == (130, "monstera: Interrupted. No files were written.\n")
    assert not list(tmp_path.iterdir())


def test_a_folder_filled_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "new"

    def meanwhile(first: date) -> list[tuple[str | bool | int | None, ...]]:
        output.mkdir()
        (output / "kept.txt").write_text("kept")
        return catalog_rows(first)

    monkeypatch.setattr(writer, "catalog_rows", meanwhile)
    with pytest.raises(GenerationError, match="is not empty"):
        generate(Company(users=20, days=3), output)
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "kept.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--users", 0), "--users: 0 is not between 1 and"),
        (("--days", 0), "--days: 0 is not between 1 and"),
        (("--seed", -1), "--seed: -1 is not between 0 and"),
        (("--events", 0), "--events: 0 is not a positive number"),
        (("--events", 5), "--events: 5 is too few"),
        (("--days", 3_000, "--to", "1995-01-01"), "Choose a later date or fewer days"),
        (("--to", "2200-01-02"), "--to: 2200-01-02 is after 2200-01-01"),
        (("--as-of", "2030-01-01"), "--as-of: 2030-01-01 is not between"),
        (("--to", "yesterday"), "does not match the format"),
        (("--format", "xlsx"), "is not one of"),
    ],
)
def test_bad_arguments_are_named(
    tmp_path: Path, arguments: tuple[str | int, ...], message: str
) -> None:
    done = command(*arguments, "--output", tmp_path / "new")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_bad_disturbances_are_named() -> None:
    first, last = date(2025, 5, 2), date(2025, 5, 1)
    with pytest.raises(GenerationError, match="before the first day"):
        ChurnSpike(first, last, "DE", 2.0)
    with pytest.raises(GenerationError, match="factor"):
        ChurnSpike(last, first, "DE", -1.0)
    with pytest.raises(GenerationError, match="missing_share"):
        TrackingOutage(last, first, 1.5)
    with pytest.raises(GenerationError, match="country: XX is not one of"):
        Company(anomalies=(ChurnSpike(last, first, "XX", 2.0),))


@pytest.mark.parametrize(("users", "days"), [(1, 1), (1, 200), (19, 40), (21, 1)])
def test_tiny_companies_have_all_their_users(users: int, days: int, tmp_path: Path) -> None:
    folder = generate(Company(users=users, days=days), tmp_path / "tiny").folder
    assert len(rows(folder, "users")) == users
    assert len(rows(folder, "accounts")) == max(1, users // 20)
    assert len(list(folder.glob("events/*/*"))) == days


def test_a_simulation_can_end_on_any_day() -> None:
    """The hidden states of a day do not depend on later days."""
    whole, part = (
        Simulation(SMALL),
        Simulation(Company(users=120, days=60, seed=3, until=SMALL.date_of(30))),
    )
    for (day, left), (_, right) in zip(whole.run(), part.run(), strict=False):
        assert (left.working == right.working).all()
        if day == 30:
            assert (whole.people.state == part.people.state).all()
