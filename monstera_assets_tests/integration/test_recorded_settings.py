"""A run fails before it writes if its settings differ from those of the stored days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pytest

from monstera_assets.lifecycle.policy import AlertPolicy, LifecyclePolicy, SegmentPolicy
from monstera_assets.operations.recorded_settings import ensure_writable, recorded_settings
from monstera_assets.settings import Settings
from monstera_assets.warehouse.archive import Archive, record_archive
from monstera_assets.warehouse.connection import connect
from monstera_assets.warehouse.recorded_settings import ChangedSettingsError
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.command_line import SEEDS
from monstera_assets_tests.integration.example_runs import ENTITIES, EVENTS, Graph, assert_same

DAYS = DateWindow(date(2025, 6, 1), date(2025, 6, 3))
LOADS = [*ENTITIES, *EVENTS]


@pytest.fixture
def graph(tmp_path: Path) -> Callable[..., Graph]:
    """Return graphs with different settings and the same database, which has three days."""

    def with_settings(policy: LifecyclePolicy | None = None, timezone: str = "UTC") -> Graph:
        home = tmp_path / f"home{len(list(tmp_path.iterdir()))}"
        policy = policy or LifecyclePolicy()
        return Graph(SEEDS, tmp_path / "w.duckdb", home, DAYS.first, policy, timezone)

    made = with_settings()
    with made.instance:
        assert made.run(DAYS, only=LOADS).success
    return with_settings


def refused(graph: Graph) -> str:
    """Run the loads, require that they change nothing, and return the error."""
    before = graph.contents_of(LOADS)
    with graph.instance:
        result = graph.run(DAYS, only=LOADS)
    assert not result.success
    assert_same(graph.contents_of(LOADS), before)
    with pytest.raises(ChangedSettingsError) as raised:
        ensure_writable(graph.settings)
    assert str(raised.value) in " ".join(
        str(event.event_specific_data) for event in result.all_events
    )
    return str(raised.value)


def test_the_error_names_the_settings_and_the_command(graph: Callable[..., Graph]) -> None:
    other = LifecyclePolicy(active_days=31, segments=SegmentPolicy(power_min_events=21))
    message = refused(graph(other, "Europe/Berlin"))
    assert "timezone was UTC and is now Europe/Berlin" in message
    assert "policy.active_days was 30 and is now 31" in message
    assert "policy.segments.power_min_events was 20 and is now 21" in message
    assert message.endswith("recompute all days with: monstera run --rebuild")


def test_thresholds_of_alerts_can_change(graph: Callable[..., Graph]) -> None:
    other = graph(LifecyclePolicy(alerts=AlertPolicy(max_gap_days=3)))
    with other.instance:
        assert other.run(DAYS, only=LOADS).success


def test_all_days_are_computed_again(graph: Callable[..., Graph], tmp_path: Path) -> None:
    berlin = graph(timezone="Europe/Berlin")
    ensure_writable(berlin.settings, rebuild=True)
    with berlin.instance:
        assert berlin.run(DAYS, only=LOADS).success
    fresh = Graph(
        SEEDS, tmp_path / "f.duckdb", tmp_path / "f", DAYS.first, timezone="Europe/Berlin"
    )
    with fresh.instance:
        assert fresh.run(DAYS, only=LOADS).success
    assert_same(berlin.contents_of(LOADS), fresh.contents_of(LOADS))
    assert "timezone was Europe/Berlin and is now UTC" in refused(graph())


def test_days_without_raw_events_cannot_be_computed_again(graph: Callable[..., Graph]) -> None:
    berlin = graph(timezone="Europe/Berlin")
    with connect(str(berlin.database), {}) as connection:
        record_archive(connection, Archive(DAYS.first, DAYS.last))
    before = berlin.contents_of(LOADS)
    with pytest.raises(ChangedSettingsError, match=r"Raw events before 2025-06-01 were deleted"):
        ensure_writable(berlin.settings, rebuild=True)
    assert_same(berlin.contents_of(LOADS), before)


def test_what_is_recorded(graph: Callable[..., Graph]) -> None:
    names = recorded_settings(Settings()).keys()
    assert {"timezone", "earliest_event_date", "entities_created", "policy.trial_days"} <= names
    assert {"policy.segments.daily_min_days", "policy.anomalies.min_members"} <= names
    others = ("policy.alerts.", "policy.churn.", "policy.recommendations.")
    assert not [name for name in names if name.startswith(others)]
    with duckdb.connect(str(graph().database), read_only=True) as connection:
        stored = connection.execute("FROM operations.settings").fetchall()
    assert dict(stored) == recorded_settings(Settings())
