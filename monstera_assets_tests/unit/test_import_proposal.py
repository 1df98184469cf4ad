"""`monstera init` recognizes exports, and proposes settings and a catalog."""

from __future__ import annotations

import csv
import shutil
import tomllib
from pathlib import Path

import pytest

from monstera_assets.imports.importer import run_import
from monstera_assets.imports.proposal import propose
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.source.errors import SourceError
from monstera_assets_tests.helpers.import_samples import (
    EXPORTS,
    SAMPLES,
    expected_rows,
    landed_rows,
)

RECOGNIZED = {
    "posthog/raw/parquet": "posthog",
    "posthog/raw/jsonl": "posthog",
    "segment/raw": "segment",
    "rudderstack/raw": "rudderstack",
    "amplitude/raw": "amplitude",
    "mixpanel/raw": "mixpanel",
    "ga4/raw/json": "ga4",
    "ga4/raw/parquet": "ga4",
    "snowplow/raw/enriched": "snowplow",
}


@pytest.mark.parametrize(("folder", "kind"), RECOGNIZED.items(), ids=RECOGNIZED)
def test_tools_are_recognized(folder: str, kind: str, tmp_path: Path) -> None:
    proposal = propose(EXPORTS / folder, tmp_path)
    assert [*proposal.kinds] == [kind]
    settings = tomllib.loads((tmp_path / "monstera.toml").read_text())
    [table] = settings["import"]
    assert (table["kind"], table["account"], table["billing"]) == (kind, "group", "none")


def test_proposal_can_be_imported(tmp_path: Path) -> None:
    shutil.copytree(EXPORTS / "posthog" / "raw" / "parquet", tmp_path / "exports")
    proposal = propose(tmp_path / "exports", tmp_path)
    shown = {each.name: (each.users, each.days, each.qualifies) for each in proposal.event_types}
    # The events of the sample, counted by hand.
    assert shown["document_created"] == (3, 3, True)
    assert shown["page_viewed"] == (2, 2, False)
    assert shown["event_login"] == (1, 1, False)
    assert shown["signed_up"] == (4, 4, False)
    assert sum(each.share for each in proposal.event_types) == pytest.approx(1)
    # Ada, Cy and Dee create a document first, Ben accepts an invitation, and Eli publishes.
    assert [each.name for each in proposal.event_types if each.activates] == ["document_created"]
    with proposal.catalog_file.open(newline="") as file:
        [family, product] = csv.DictReader(file)
    assert (family["tier"], product["tier"]) == ("family", "product")
    assert product["activation_event_types"] == "document_created"

    tables = tomllib.loads(proposal.settings_file.read_text())["import"]
    settings = Settings(source=tmp_path / "source", imports=tuple(tables))
    run_import(settings)
    events = landed_rows(settings.source, "events")
    expected = expected_rows(SAMPLES["posthog-parquet"], "events")
    assert sorted(row["event_id"] for row in events) == sorted(row["event_id"] for row in expected)
    assert {row["product_id"] for row in events} == {"product"}
    assert {row["event_type"] for row in events if row["is_qualifying_event"] == "true"} == {
        name for name, (_, _, qualifies) in shown.items() if qualifies
    }


@pytest.mark.parametrize("name", ["monstera.toml", "source/product_catalog.csv"])
def test_nothing_is_overwritten(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(SettingsError, match="is not overwritten"):
        propose(EXPORTS / "posthog" / "raw" / "parquet", tmp_path)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
    assert path.read_text() == "mine"


def test_folder_of_other_files(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"No file in .* is an export that is recognized"):
        propose(EXPORTS / "plain" / "raw", tmp_path)
    assert not (tmp_path / "monstera.toml").exists()
