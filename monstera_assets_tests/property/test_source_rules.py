"""The bronze tables of random odd sources match the oracle's."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monstera_assets.operations.runs import failures_of
from monstera_assets.settings import Settings
from monstera_assets.warehouse.windows import DateWindow
from monstera_assets_tests.helpers.loaded_source import difference, expected, ids_in, loaded
from monstera_assets_tests.inputs.odd_source import OddSource, write_odd_source
from monstera_assets_tests.inputs.strategies import examples
from monstera_assets_tests.integration.example_runs import ENTITIES, EVENTS, Graph
from monstera_assets_tests.oracle.source import NULL_WORDS, Source, lines_of, load

REASONS = {
    "events": {
        *("missing_entity_id", "missing_event_type", "missing_timestamp"),
        *("unknown_entity_type", "unknown_location", "invalid_event_type", "unreadable_metadata"),
        *("unreadable_timestamp", "before_earliest_event_date", "not_on_date_of_folder"),
        *("user_rejected", "unknown_user", "account_rejected", "unknown_account"),
        *("before_user_creation", "after_user_deletion", "unknown_product", "superseded"),
    },
    "subscription_events": {
        *("missing_entity_id", "missing_event_type", "missing_timestamp"),
        *("unknown_entity_type", "invalid_event_type", "unreadable_metadata"),
        *("unreadable_timestamp", "before_earliest_event_date"),
        *("user_rejected", "unknown_user", "account_rejected", "unknown_account"),
        *("before_user_creation", "unknown_subscription_event", "superseded", "merged"),
    },
    "user_aliases": {"missing_alias_id", "missing_user_id", "superseded"},
    "users": {
        *("missing_user_id", "missing_user_created_at", "unreadable_user_created_at"),
        *("before_earliest_event_date", "missing_account_id"),
        *("account_rejected", "unknown_account", "superseded", "merged"),
    },
    "accounts": {
        *("missing_account_created_at", "unreadable_account_created_at"),
        *("before_earliest_event_date", "superseded"),
    },
    "product_catalog": {"missing_product_id"},
}
"""Reasons that the generator must cause."""
FAULTS = {
    *("event_without_product", "flag_differs_from_catalog", "qualifying_type_in_no_list"),
    *("email_in_metadata", "unknown_subscription_tier", "unreadable_is_qualifying_event"),
    *("unreadable_is_activation_event", "unreadable_received_at", "unreadable_total_seats"),
    *("unreadable_monthly_recurring_revenue", "unreadable_contract_renewal_date"),
    *("unreadable_first_paid_at", "unreadable_effective_date", "unreadable_is_active"),
    *("unreadable_active_days", "unreadable_is_trial"),
    *("unreadable_valid_from", "unreadable_updated_at", "alias_in_cycle"),
}
"""Faults that the generator must cause."""


@dataclass
class OddRun(Graph):
    """Loads an odd source with its settings."""

    odd: OddSource = field(default_factory=lambda: OddSource(Path()))

    @cached_property
    def settings(self) -> Settings:
        """The configuration."""
        given: dict[str, object] = {
            "source": self.source,
            "database": self.database,
            "start_date": self.start,
            "earliest_event_date": self.odd.earliest,
            "timezone": self.odd.timezone,
            "threads": 2,
        }
        if self.odd.null_words is not None:
            given["null_words"] = self.odd.null_words
        if self.odd.tiers is not None:
            given["policy"] = {"subscription_tiers": self.odd.tiers}
        return Settings.model_validate(given)


def oracle_of(odd: OddSource, last_day: date | None = None) -> Source:
    return load(
        odd.folder,
        last_day=last_day,
        timezone=odd.timezone,
        earliest=odd.earliest,
        **{} if odd.null_words is None else {"null_words": odd.null_words},
        **{} if odd.tiers is None else {"tiers": odd.tiers},
    )


def event_ids(odd: OddSource) -> set[str]:
    words = odd.null_words or NULL_WORDS
    return {
        event_id
        for name in ("events", "subscription_events")
        for event_id in ids_in(lines_of(odd.folder, name, words) or [])
    }


def window_of(oracle: Source) -> DateWindow | None:
    """Return the days of a run that reads all rows, or None if no row is accepted.

    Rejected rows do not stretch the range of a source. Those dated after it, and those in folders
    outside it, are only part of a run that is asked for their days.
    """
    if oracle.first_day is None or oracle.last_day is None:
        return None
    lines = [found.line for found in oracle.rejected if found.line.input_name == "events"]
    folders = [line.folder_date for line in lines if line.folder_date is not None]
    dates = [found.event_date for found in oracle.rejected if found.event_date is not None]
    return DateWindow(min([oracle.first_day, *folders]), max([oracle.last_day, *folders, *dates]))


@examples(5)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_rows_that_enter_are_the_oracles(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    odd = write_odd_source(folder / "source", seed)
    oracle = oracle_of(odd)
    window = window_of(oracle)
    if window is None:
        return  # a source without an accepted row has no day
    oracle = oracle_of(odd, window.last)
    run = OddRun(odd.folder, folder / "warehouse.duckdb", folder / "home", window.first, odd=odd)
    with run.instance:
        result = run.run(window, only=(*ENTITIES, *EVENTS, "bronze_source_faults"))
    assert failures_of(result.all_events) == [], f"seed {seed}"
    words = odd.null_words or NULL_WORDS
    found = loaded(run.database, event_ids(odd), oracle.counts.keys(), words)
    differing = difference(found, expected(oracle, words))
    assert not differing, f"seed {seed}, {odd.options}\n{differing}"
    shutil.rmtree(folder)


def test_the_generator_causes_every_reason_and_fault(tmp_path: Path) -> None:
    reasons: Counter[tuple[str, str]] = Counter()
    faults: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    versions: Counter[str] = Counter()
    of_aliases: Counter[str] = Counter()
    movers = 0
    for seed in range(120):
        oracle = oracle_of(write_odd_source(tmp_path / f"{seed}", seed))
        reasons.update((found.line.input_name, found.reason) for found in oracle.rejected)
        faults.update(found.fault for found in oracle.faults)
        for name, counts in oracle.counts.items():
            accepted[name] += counts.accepted
            assert counts.read == counts.accepted + counts.repeated + counts.rejected
        versions["users"] += len(oracle.users) - len({row["user_id"] for row in oracle.users})
        versions["accounts"] += len(oracle.accounts) - len(
            {row["account_id"] for row in oracle.accounts}
        )
        accounts_of_users = {(row["user_id"], row["account_id"]) for row in oracle.users}
        movers += len(accounts_of_users) - len({user for user, _ in accounts_of_users})
        of_aliases.update(situations_of_aliases(oracle))
        if oracle.first_day is not None and oracle.last_day is not None:
            assert date(2025, 3, 1) <= oracle.first_day <= oracle.last_day <= date(2025, 11, 30)
    wanted = {(name, reason) for name, of_input in REASONS.items() for reason in of_input}
    assert wanted <= reasons.keys()
    assert faults.keys() >= FAULTS
    assert all(number > 200 for number in accepted.values())
    assert min(versions["users"], versions["accounts"], movers) > 50
    assert len(of_aliases) == 7
    assert min(of_aliases.values()) > 20, of_aliases


def situations_of_aliases(oracle: Source) -> Iterator[str]:
    """Return the situations that the aliases of a source cause, each as often as it occurs."""
    aliases = {row["alias_id"]: row for row in oracle.user_aliases if row["faults"] is None}
    for alias in oracle.user_aliases:
        if alias["merged_user_id"] != alias["user_id"]:
            yield "in cycle" if alias["faults"] else "chain"
    users = {row["user_id"]: row for row in oracle.users}
    for user, row in users.items():
        created = [
            alias["alias_created_at"]
            for alias in aliases.values()
            if alias["merged_user_id"] == user and alias["alias_created_at"] is not None
        ]
        if row["alias_id"] is not None:
            yield "known under an alias"
            if len(created) > 1:
                yield "known under several aliases"
        elif created and min(created) == row["user_created_at"]:
            yield "created under an alias"
    yield from ("version under an alias" for row in oracle.users if row["alias_id"] is not None)
    ends = {alias["merged_user_id"] for alias in aliases.values()}
    for row in (*oracle.events, *oracle.subscription_events):
        if (row["metadata"] or {}).get("target_user_id") in ends:
            yield "target"


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_odd_source(tmp_path / name, 7)
    one, two = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*.csv")
        }
        for name in ("one", "two")
    )
    assert one == two
