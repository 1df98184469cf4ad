"""An imported export goes through the whole graph, and no row of it is rejected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from monstera_assets_tests.command_line import monstera
from monstera_assets_tests.import_samples import CATALOG, SAMPLES, Sample, expected_rows

DEFAULT = "posthog-parquet"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + "}"
    return json.dumps(value)


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(sample, id=name, marks=[] if name == DEFAULT else [pytest.mark.slow])
        for name, sample in SAMPLES.items()
    ],
)
def test_no_row_is_rejected(sample: Sample, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(CATALOG, source)
    table = "\n".join(f"{name} = {_toml(each)}" for name, each in sample.import_table().items())
    (tmp_path / "monstera.toml").write_text(f"[[import]]\n{table}\n", encoding="utf-8")
    imported = monstera(tmp_path, "import", source=source)
    assert (imported.code, imported.err) == (0, "")
    done = monstera(tmp_path, "run", source=source)
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
