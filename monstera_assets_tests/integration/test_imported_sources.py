"""An imported export goes through the whole graph, and no row of it is rejected."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets_tests.end_to_end.test_documentation_commands import PAGES, assert_shown, steps
from monstera_assets_tests.helpers.command_line import Outcome, monstera
from monstera_assets_tests.helpers.import_samples import (
    CATALOG,
    SAMPLES,
    STRIPE,
    Sample,
    expected_rows,
)

LATEST = "2025-06-11T00:00:00+00:00-2025-06-12T00:00:00+00:00.parquet.zst"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + "}"
    return json.dumps(value)


def _assert_expected(done: Outcome, sample: Sample) -> None:
    """Assert that the rows worked out by hand, and no others, went through the whole graph."""
    assert done.code == 0, done.out + done.err
    assert done.tables["bronze.bronze_rejected_events"][0] == 0
    assert done.tables["bronze.bronze_rejected_entities"][0] == 0
    expected = {name: expected_rows(sample, name) for name in ("events", "subscription_events")}
    assert done.tables["bronze.bronze_events"][0] == len(expected["events"])
    assert done.tables["bronze.bronze_subscription_events"][0] == len(
        expected["subscription_events"]
    )
    with duckdb.connect(done.database, read_only=True) as connection:
        users = connection.execute(
            "SELECT user_id, account_id, platform_state FROM silver.silver_user_current_state"
        ).fetchall()
    assert {user_id for user_id, _, _ in users} == {
        row["user_id"] for row in expected_rows(sample, "users")
    }
    deleted = {row["entity_id"] for row in expected["subscription_events"]}
    assert {user_id for user_id, _, state in users if state == "deleted"} == deleted
    latest = {
        row["user_id"]: row["account_id"]
        for row in sorted(expected_rows(sample, "users"), key=lambda row: row["valid_from"])
    }
    assert {user_id: account_id for user_id, account_id, _ in users} == latest


@pytest.mark.slow
@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_no_row_is_rejected(sample: Sample, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(CATALOG, source)
    table = "\n".join(f"{name} = {_toml(each)}" for name, each in sample.import_table().items())
    (tmp_path / "monstera.toml").write_text(f"[[import]]\n{table}\n", encoding="utf-8")
    imported = monstera(tmp_path, "import", source=source)
    assert (imported.code, imported.err) == (0, "")
    _assert_expected(monstera(tmp_path, "run", source=source), sample)


BEN, BENS_ADDRESS = "018f2c00-0000-7000-8000-00000000000b", "ben@northwind.example"


def _mentions_ben(source: Path) -> bool:
    with duckdb.connect() as connection:
        texts = [
            connection.execute(
                f"SELECT coalesce(string_agg(rows::VARCHAR), '') FROM '{path}' AS rows"
            ).fetchall()[0][0]
            for path in [*source.glob("*.parquet"), *source.glob("events/*/*.parquet")]
        ]
    assert texts
    return any(BEN in text or BENS_ADDRESS in text for text in texts)


def test_the_page_shows_what_an_import_prints(tmp_path: Path) -> None:
    sample = SAMPLES["posthog-parquet"]
    [imported, proposed, _] = steps("docs/how-to/importing.md", marked=True)
    folder, other = tmp_path / "configured", tmp_path / "proposed"
    shutil.copytree(sample.raw, folder / "exports" / "posthog")
    shutil.copytree(sample.raw, other / "exports")
    (folder / "source").mkdir()
    shutil.copy(CATALOG, folder / "source")
    settings = re.findall(
        r"^```toml\n# monstera.toml\n(.*?)^```$",
        PAGES["docs/how-to/importing.md"],
        re.MULTILINE | re.DOTALL,
    )
    (folder / "monstera.toml").write_text(settings[0], encoding="utf-8")
    for step, place in ((imported, folder), (proposed, other)):
        done = monstera(place, *step.words[1:], source=None)
        assert (done.code, done.err) == (0, "")
        assert_shown(step.output, done.out)


def test_from_an_export_to_dashboards(tmp_path: Path) -> None:
    """The commands of the README and the tutorial: one edit improves the result; forget reaches all."""
    sample = SAMPLES["posthog-parquet"]
    shutil.copytree(sample.raw, tmp_path / "exports")
    known = steps("README.md")
    commands = [step.words for step in steps("README.md", marked=True) if step not in known]
    assert [words[:2] for words in commands] == [["monstera", "init"], ["monstera", "run"]]
    tutorial = steps("docs/tutorials/posthog.md", marked=True)
    assert [step.words for step in tutorial] == [*commands, commands[1]]
    init, run = (monstera(tmp_path, *words[1:], source=None) for words in commands)
    assert_shown(tutorial[0].output, init.out)
    assert_shown(tutorial[1].output, run.out)
    assert (init.code, init.err) == (0, "")
    _assert_expected(run, sample)
    # In the last seven days, Ada exported a report, Ben and Eli moved a card or published a document,
    # and Cy and Dee created one. Only Ben did so on the last day.
    assert "DAU (Users Active Daily): 1\n" in run.out
    assert "WAU (Users Active Weekly): 5\n" in run.out
    dashboards = run.database.parent / "dashboards" / "current"
    assert (dashboards / "index.html").exists()
    assert "landed_source" in (status := monstera(tmp_path, "status", source=None)).out, status

    catalog = tmp_path / "source" / "product_catalog.csv"
    text = catalog.read_text(encoding="utf-8")
    assert text.count("|report_exported") == 1
    catalog.write_text(text.replace("|report_exported", ""), encoding="utf-8")
    again = monstera(tmp_path, *commands[1][1:], source=None)
    _assert_expected(again, sample)
    assert_shown(tutorial[2].output, again.out)
    assert "DAU (Users Active Daily): 1\n" in again.out
    assert "WAU (Users Active Weekly): 4\n" in again.out

    source = tmp_path / "source"
    assert _mentions_ben(source)
    forgotten = monstera(tmp_path, "forget", BEN, source=None)
    assert forgotten.code == 0, forgotten.err
    assert "Imported source rewritten" in forgotten.out
    assert not _mentions_ben(source)
    shutil.copy(tmp_path / "exports" / "events" / LATEST, tmp_path / "exports" / "again.parquet")
    for arguments in ([], ["--rebuild"]):
        imported = monstera(tmp_path, "import", *arguments, source=None)
        assert (imported.code, imported.err) == (0, "")
        assert "landed  19 rows" in imported.out
        assert not _mentions_ben(source)


# Worked out by hand from the facts in exports/stripe/expected: the days on which an account's revenue,
# seats, tier or freezing change. An account pays from its first payment on.
PAID_FROM = {
    ("acct_lumen", "2025-06-05"): (200, 10, "professional", None),
    ("acct_lumen", "2025-07-01"): (400, 10, "enterprise", None),
    ("acct_lumen", "2025-08-01"): (400, 10, "enterprise", "voluntary_pause"),
    ("acct_lumen", "2025-08-20"): (400, 10, "enterprise", None),
    ("acct_north", "2025-06-02"): (0, 3, "trial", None),
    ("acct_north", "2025-06-09"): (45, 3, "starter", None),
    ("acct_north", "2025-07-09"): (45, 3, "starter", "payment_dunning"),
    ("acct_north", "2025-07-14"): (45, 3, "starter", None),
    ("acct_north", "2025-07-20"): (75, 5, "starter", None),
}


@pytest.mark.slow
def test_stripe_beside_a_product_tool(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(CATALOG, source)
    text = "[policy]\nexchange_rates = {EUR = 1.0}\n"
    for sample in (SAMPLES["segment"], STRIPE):
        table = sample.import_table()
        text += "[[import]]\n" + "".join(
            f"{name} = {_toml(each)}\n" for name, each in table.items()
        )
    (tmp_path / "monstera.toml").write_text(text, encoding="utf-8")
    done = monstera(tmp_path, "run", source=source)
    assert done.code == 0, done.out + done.err
    assert done.tables["bronze.bronze_rejected_events"][0] == 0
    assert done.tables["bronze.bronze_rejected_entities"][0] == 0
    assert done.tables["bronze.bronze_subscription_events"][0] == 11 + 1
    with duckdb.connect(done.database, read_only=True) as connection:
        rows = connection.execute("""
            SELECT account_id, snapshot_date::VARCHAR, monthly_recurring_revenue, total_seats,
                subscription_tier, frozen_reason FROM silver.silver_account_state_history
            QUALIFY (monthly_recurring_revenue, total_seats, subscription_tier, frozen_reason)
                IS DISTINCT FROM lag((monthly_recurring_revenue, total_seats, subscription_tier,
                    frozen_reason)) OVER (PARTITION BY account_id ORDER BY snapshot_date)
            ORDER BY 1, 2""").fetchall()
        latest = connection.execute(
            "SELECT account_id, current_state, contract_renewal_date::VARCHAR, as_of_date::VARCHAR"
            " FROM silver.silver_account_current_state ORDER BY account_id"
        ).fetchall()
    assert {(row[0], row[1]): row[2:] for row in rows} == PAID_FROM
    # The last fact is of 20 August. No one has used the product for 30 days, and Northwind has
    # cancelled.
    assert latest == [
        ("acct_lumen", "at_risk", "2026-06-05", "2025-08-20"),
        ("acct_north", "at_risk", "2025-09-09", "2025-08-20"),
    ]
