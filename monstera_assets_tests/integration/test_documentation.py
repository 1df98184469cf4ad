"""The generated pages are current and agree with the framework, the seeds and the database."""

import csv
import re
from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from dagster import AssetCheckSeverity

from monstera_assets.cli import main
from monstera_assets.definitions import build_definitions, rules, table_assets, tables
from monstera_assets.documentation.catalog import Catalog, Node, read_catalog
from monstera_assets.documentation.metric_examples import EXAMPLES
from monstera_assets.documentation.pages import render, render_pages
from monstera_assets.gold.gold_metric_catalog import catalog_rows
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.markdown import code, table, text
from monstera_assets.settings import Settings
from monstera_assets_tests.helpers.markdown_page import plain, section, sections
from monstera_assets_tests.integration.example_runs import SeedsRun

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / "seeds"
GENERATED = ROOT / "docs" / "generated"
PAGES = (
    "activation_events.md",
    "alerts.md",
    "data_dictionary.md",
    "lineage.md",
    "metric_catalog.md",
    "qualifying_events.md",
    "segments.md",
    "states.md",
)

# Copied by hand from framework, sections 3 and 5; * marks an extension.
USER_MATRIX = {
    "new": "active, churned, deleted, dunning*, dormant*",
    "active": "returning, dormant, churned, dunning, deleted",
    "returning": "active, dormant, churned, deleted, dunning*",
    "dormant": "returning, churned, deleted",
    "churned": "reactivated, deleted",
    "reactivated": "active, churned, deleted, dunning*",
    "dunning": "active, churned, deleted, dormant*",
    "deleted": "",
}
PUBLISHED_OF_ACCOUNTS = (
    "trial → new_paid, churned, deleted; new_paid → active, expanding, at_risk, churned;"
    " active → expanding, at_risk, contracting, churned; expanding → active, contracting, at_risk;"
    " at_risk → active, contracting, churned; contracting → active, expanding, at_risk, churned;"
    " churned → reactivated, deleted; reactivated → active, at_risk, churned;"
    " frozen → active, churned, deleted"
)
THRESHOLDS = {
    "new_user_days": "30",
    "active_days": "30",
    "dormant_days": "60",
    "min_qualifying_events_to_activate": "1",
    "renewal_grace_days": "3",
    "dunning_days": "30",
    "trial_days": "30",
    "churn_days": "61",
    "reactivated_days": "90",
    "onboarding_days": "30",
    "new_paid_days": "90",
    "breadth_target": "5",
}


@cache
def rendered() -> Mapping[str, str]:
    settings = Settings(source=SEEDS, start_date=date(2024, 7, 1))
    graph = build_definitions(settings).resolve_asset_graph()
    return render_pages(graph, table_assets(), tables(), rules(), read_catalog(SEEDS))


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    path = GENERATED / name
    assert path.is_file(), f"docs/generated/{name} is missing. Run `make docs`."
    is_current = path.read_text(encoding="utf-8") == rendered()[name]
    assert is_current, f"docs/generated/{name} is out of date. Run `make docs`."


def test_the_folder_holds_only_generated_pages() -> None:
    assert set(rendered()) == set(PAGES)
    assert {path.name for path in GENERATED.iterdir()} == {*PAGES, "dialects.md"}


def test_the_transitions_of_users_are_the_frameworks() -> None:
    expected = {
        (origin, target.removesuffix("*"), "extension" if "*" in target else "published")
        for origin, targets in USER_MATRIX.items()
        for target in filter(None, targets.split(", "))
    }
    found = section(rendered()["states.md"], "Users").rows
    assert {(row["from"], row["to"], row["published or extension"]) for row in found} == expected
    assert len(found) == 28
    assert sum(row["published or extension"] == "published" for row in found) == 23


def test_the_published_transitions_of_accounts_are_the_frameworks() -> None:
    published = {
        (origin, target)
        for part in PUBLISHED_OF_ACCOUNTS.split("; ")
        for origin, targets in [part.strip().split(" → ")]
        for target in targets.split(", ")
    }
    assert len(published) == 29
    into_deleted = {("trial", "deleted"), ("churned", "deleted"), ("frozen", "deleted")}
    found = section(rendered()["states.md"], "Accounts").rows
    documented = {
        (row["from"], row["to"]) for row in found if row["published or extension"] == "published"
    }
    assert documented == published - into_deleted
    assert not any(row["to"] == "deleted" for row in found)


@pytest.mark.parametrize("heading", ["Users", "Product relationships", "Accounts"])
def test_a_diagram_shows_the_transitions_of_its_table(heading: str) -> None:
    found = section(rendered()["states.md"], heading)
    kind, *lines = found.mermaid
    assert kind == "stateDiagram-v2"
    drawn = [line for line in lines if not line.endswith("--> [*]")]
    assert drawn == [
        f"{row['from']} --> {row['to']}"
        + (" : extension" if row["published or extension"] == "extension" else "")
        for row in found.rows
    ]
    final = [line for line in lines if line.endswith("--> [*]")]
    assert final == (["deleted --> [*]"] if heading == "Users" else [])


@pytest.mark.parametrize("heading", ["Users", "Product relationships", "Accounts"])
def test_every_extension_has_a_reason(heading: str) -> None:
    for row in section(rendered()["states.md"], heading).rows:
        is_extension = row["published or extension"] == "extension"
        assert bool(row["reason"]) is is_extension, row


def test_the_thresholds_are_the_frameworks() -> None:
    found = section(rendered()["states.md"], "Thresholds").rows
    documented = {row["name"]: row["default"] for row in found}
    assert documented.items() >= THRESHOLDS.items()
    assert all(row["description"] for row in found)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("qualifying_events.md", "qualifying_event_types"),
        ("activation_events.md", "activation_event_types"),
    ],
)
def test_each_row_of_the_catalog_is_listed_under_its_product(name: str, column: str) -> None:
    catalog = read_seed("product_catalog")
    by_id = {row["product_id"]: row for row in catalog}
    page = rendered()[name]
    nodes = 0
    for row in catalog:
        if row["tier"] == "family":
            assert section(page, row["product_name"]).tables == []
            continue
        product = row
        while product["tier"] != "product":
            product = by_id[product["parent_product_id"]]
        under = section(page, product["product_name"])
        [line] = [line for line in under.rows if line["node"] == row["product_id"]]
        assert line["name"] == row["product_name"]
        assert line["tier"] == row["tier"]
        types = row[column].replace("|", ", ") or "none"
        assert line[column.replace("_", " ")] == types
        assert ("Retired" in under.body) is (product["is_active"] == "false")
        windows = f"active up to {product['active_days']} days and dormant up to"
        assert (f"{windows} {product['dormant_days']} days" in under.body) is bool(
            product["active_days"]
        )
        nodes += 1
    assert nodes == 14
    assert sum(len(each.rows) for each in sections(page) if each.tables) == nodes


def test_the_dictionary_has_the_columns_that_the_database_has(seeds_run: SeedsRun) -> None:
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        stored = connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns()"
            " SEMI JOIN duckdb_tables() USING (schema_name, table_name)"
            " WHERE schema_name IN ('bronze', 'silver', 'gold') ORDER BY table_name, column_index"
        ).fetchall()
    by_table: dict[str, list[tuple[str, str]]] = {}
    for name, column, kind in stored:
        by_table.setdefault(name, []).append((column, kind.replace(" ", "")))
    page = rendered()["data_dictionary.md"]
    for name, columns in by_table.items():
        described, _ = section(page, name).tables
        documented = [(row["column"], row["type"].replace(" ", "")) for row in described]
        assert [(column, kind.replace('"', "")) for column, kind in documented] == [
            (column, kind.replace('"', "")) for column, kind in columns
        ]
        assert all(row["description"] for row in described)
    layers = ("bronze_", "silver_", "gold_")
    assert by_table.keys() == {
        each.heading for each in sections(page) if each.heading.startswith(layers)
    }


def test_the_dictionary_has_the_checks_that_a_run_evaluates(seeds_run: SeedsRun) -> None:
    evaluated: dict[str, set[tuple[str, str]]] = {}
    for evaluation in seeds_run.evaluations:
        blocking = evaluation.severity == AssetCheckSeverity.ERROR
        evaluated.setdefault(evaluation.asset_key.path[-1], set()).add(
            (evaluation.check_name, "blocking" if blocking else "warning")
        )
    page = rendered()["data_dictionary.md"]
    for name, checks in evaluated.items():
        _, described = section(page, name).tables
        assert {(row["check"], row["if it fails"]) for row in described} == checks, name


def test_the_dictionary_has_the_grain_of_each_table() -> None:
    page = rendered()["data_dictionary.md"]
    for layer in ("Bronze", "Silver", "Gold"):
        for row in section(page, layer).rows:
            assert f"- Grain: {row['one row is']}\n" in plain(section(page, row["table"]).body)
    history = plain(section(page, "silver_user_state_history").body)
    assert "Grain: one user and date" in history
    assert "Key: user_id, snapshot_date" in history
    assert "Partition column: snapshot_date" in history
    assert "Owner: team:" in history
    [state] = [
        row
        for row in section(page, "silver_user_state_history").tables[0]
        if row["column"] == "platform_state"
    ]
    assert set(state["allowed values"].split(", ")) == set(USER_MATRIX)
    [user] = [
        row
        for row in section(page, "silver_user_state_history").tables[0]
        if row["column"] == "user_id"
    ]
    assert user["refers to"] == "bronze_users.user_id"


def test_the_metric_catalog_shows_each_metric_in_full() -> None:
    page = rendered()["metric_catalog.md"]
    rows = catalog_rows(table_assets(), LifecyclePolicy())
    assert {row["metric_name"] for row in rows} == {
        each.heading for each in sections(page) if "- Formula: " in each.body
    }
    for row in rows:
        body = section(page, str(row["metric_name"])).body
        shown = plain(body)
        for name in ("description", "formula", "unit", "caveats", "table_name"):
            assert str(row[name]) in shown, row["metric_name"]
        for name in ("short_name", "population"):
            label = name.replace("_", " ").capitalize()
            assert (f"- {label}: {row[name]}\n" in shown) is (row[name] is not None)
        example = EXAMPLES[str(row["metric_name"])]
        assert f"- Example: {example.calculation}\n" in shown
        for query in (example.query, example.result_query(str(row["column_name"]))):
            assert f"{query};\n" in body
    for name, bounds in {
        "Users Churned Share Weekly": "share, 0 to 1, or null",
        "Users Active Daily": "users, 0 or more",
        "Revenue Churned Daily": "USD per month, 0 or less",
        "Users Active Daily Week on Week": "relative change, -1 or more, or null",
    }.items():
        assert f"- Unit: {bounds}\n" in section(page, name).body


def test_the_chart_of_lineage_has_the_arrows_of_its_tables() -> None:
    page = rendered()["lineage.md"]
    kind, *lines = section(page, "Lineage").mermaid
    assert kind == "flowchart LR"
    arrows = {tuple(line.split(" --> ")) for line in lines if "-->" in line}
    nodes = [line for line in lines if re.fullmatch("(bronze|silver|gold)_[a-z_]+", line)]
    assert len(nodes) == len(set(nodes)) == len(tables())
    rows = [row for layer in ("Bronze", "Silver", "Gold") for row in section(page, layer).rows]
    assert [row["table"] for row in rows] == nodes
    forward = {
        (read, row["table"])
        for row in rows
        for read in re.findall(r"\w+", row["computed from"])
        if read in nodes
    }
    backward = {
        (row["table"], reader)
        for row in rows
        for reader in re.findall(r"\w+", row["read by"])
        if reader in nodes
    }
    assert arrows == forward == backward
    order = ("bronze", "silver", "gold")
    for read, reader in arrows:
        assert order.index(read.split("_")[0]) <= order.index(reader.split("_")[0])


def test_lineage_is_what_the_tables_are_computed_from() -> None:
    page = rendered()["lineage.md"]
    silver = {row["table"]: row["computed from"] for row in section(page, "Silver").rows}
    assert silver["silver_user_sessions"] == "silver_events_enriched"
    assert silver["silver_events_enriched"] == (
        "bronze_accounts, bronze_events, bronze_product_catalog, bronze_subscription_events,"
        " bronze_users"
    )
    bronze = {row["table"]: row["computed from"] for row in section(page, "Bronze").rows}
    assert bronze["bronze_users"] == "the source"
    assert bronze["bronze_events"].startswith("the source, checked against ")


def test_text_cannot_break_out_of_a_cell() -> None:
    hostile = "a|b\n| c | `d` <script> [e](f) *g* _h_ i_j \\"
    rows = table(("one", "two"), [(text(hostile), code(hostile))]).splitlines()
    assert len(rows) == 3
    assert len(re.split(r"(?<!\\)\|", rows[2])) == 4
    assert "<script" not in text(hostile)
    assert text("plain snake_case text, 1 - 2.") == "plain snake_case text, 1 - 2."
    assert text("*g* _h_ [e](f)") == "\\*g\\* \\_h\\_ \\[e\\](f)"
    assert code("a`b``c") == "``` a`b``c ```"


def test_a_catalog_that_is_not_a_tree_is_shown_completely() -> None:
    def node(product_id: str, tier: str, parent_id: str | None) -> Node:
        return Node(
            product_id=product_id,
            product_name=f"{product_id} | <b>",
            tier=tier,
            parent_product_id=parent_id,
            is_active=True,
            qualifying_event_types=f"{product_id}_used",
            activation_event_types="",
            active_days=None,
            dormant_days=None,
        )

    catalog = Catalog(
        [
            node("family", "family", None),
            node("product", "product", "family"),
            node("feature", "feature", "product"),
            node("orphan", "feature", "gone"),
            node("left", "feature", "right"),
            node("right", "feature", "left"),
        ]
    )
    page = render("qualifying_events.md", catalog=catalog)
    below = [row["node"] for row in section(page, "product | <b>").rows]
    assert below == ["product", "feature"]
    outside = section(page, "Outside the taxonomy").rows
    assert [row["node"] for row in outside] == ["orphan", "left", "right"]
    assert outside[0]["qualifying event types"] == "orphan_used"


def test_the_command_writes_the_pages(tmp_path: Path) -> None:
    output = tmp_path / "made" / "here"
    result = CliRunner().invoke(main, ["docs", "--source", str(SEEDS), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert {path.name: path.read_text(encoding="utf-8") for path in output.iterdir()} == rendered()
    assert result.output.split() == [str(output / name) for name in PAGES]


def test_the_command_names_a_path_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "below"
    result = CliRunner().invoke(main, ["docs", "--source", str(SEEDS), "--output", str(output)])
    assert result.exit_code == 2
    assert f"--output {output}" in result.output


@cache
def read_seed(name: str) -> list[dict[str, str]]:
    with (SEEDS / f"seed_{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
