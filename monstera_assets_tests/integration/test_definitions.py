"""Test invariants of all assets, tables and modules, and that Dagster loads the definitions."""

import ast
import importlib
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType

import dagster as dg
import duckdb
import pytest
import yaml
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin
from dagster._core.workspace.load import location_origins_from_yaml_paths

import monstera_assets
from monstera_assets.definitions import build_definitions, table_assets, table_query, tables
from monstera_assets.gold.metrics import snake_case
from monstera_assets.settings import Settings, SettingsError
from monstera_assets.warehouse.compiler import bind, formatted
from monstera_assets.warehouse.layers import AssetGroup, Layer
from monstera_assets.warehouse.table_asset import LATEST_DAY
from monstera_assets.warehouse.tables import Table
from monstera_assets_tests.integration.example_runs import SeedsRun

ROOT = Path(__file__).parents[2]
PACKAGE = Path(monstera_assets.__file__).parent
CONTRACT_OF_ALL = {"types_as_declared", "no_nulls"}
WITHOUT_KEY = {"bronze_rejected_entities", "bronze_rejected_events"}
"""Duplicate rows of a source are rejected as identical rows."""
PERSONAL = ("email", "e_mail", "account_name", "user_name")

MAY_IMPORT = {
    "settings": {"settings", "lifecycle"},
    "source": {"source"},
    "imports": {"imports", "bronze", "checks", "settings", "lifecycle", "source", "warehouse"},
    "lifecycle": {"lifecycle"},
    "prediction": {"prediction", "lifecycle"},
    "warehouse": {"warehouse", "lifecycle", "markdown"},
    "checks": {"checks", "warehouse", "lifecycle"},
    "bronze": {"bronze", "authoring", "checks", "warehouse", "lifecycle", "source"},
}
"""The packages that the settings, and the packages below silver, may import."""
MUST_NOT_IMPORT = {
    "silver": {"gold", "operations", "source"},
    "gold": {"operations", "source"},
    "operations": {"dashboards", "documentation", "synthetic"},
}


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> AssetGraph:
    """The asset graph of the seeds."""
    settings = Settings(
        source=ROOT / "seeds",
        database=tmp_path_factory.mktemp("definitions") / "monstera.duckdb",
        start_date=date(2025, 6, 1),
    )
    return build_definitions(settings).resolve_asset_graph()


def test_assets_are_the_declared_tables_under_layer_and_name(graph: AssetGraph) -> None:
    keys = {tuple(key.path) for key in graph.get_all_asset_keys()}
    of_tables = {(table.layer.value, table.name) for table in tables()}
    assert keys == of_tables | {("dashboards", "static_site"), ("published", "copy")}
    assert len(of_tables) == len(tables())
    assert all(name.startswith(f"{layer}_") for layer, name in of_tables)


def test_assets_are_grouped_by_subject_and_described(graph: AssetGraph) -> None:
    """The description is a question, the grain, the page and, if the table has a query, the SQL."""
    queries = {each.table.name for each in table_assets() if each.is_query}
    of_group: dict[str, list[str]] = {}
    for key in graph.get_all_asset_keys():
        node, (first, name) = graph.get(key), key.path
        of_group.setdefault(node.group_name, []).append(name)
        assert node.owners, name
        assert all(owner.startswith("team:") for owner in node.owners)
        if first in set(Layer):
            assert {"duckdb", first} <= node.kinds
        answers, grain, *links = (node.description or "").split("\n\n")
        question, mark, _ = answers.partition("?")
        assert mark, f"{name}: the first sentence is the question that the asset answers"
        assert ". " not in question, name
        assert answers.endswith((".", "?"))
        assert grain.startswith("Grain: one ")
        path, _, anchor = links[0].removeprefix("Page: `").removesuffix("`").partition("#")
        assert path.startswith("docs/")
        page = (ROOT / path).read_text(encoding="utf-8")
        assert anchor == (name if first in set(Layer) else "")
        assert f"\n### {anchor}\n" in page or not anchor
        assert links[1:] == ([f"SQL: `monstera sql {name}`"] if name in queries else [])
    assert {*of_group} == {str(group) for group in AssetGroup}
    assert max(map(len, of_group.values())) <= 10, "test_ui.py checks that the graphs fit"


def test_descriptions_link_to_the_documentation_site(tmp_path: Path) -> None:
    settings = Settings(
        database=tmp_path / "monstera.duckdb",
        start_date=date(2025, 6, 1),
        documentation_url="https://docs.example.com/monstera/",
    )
    graph = build_definitions(settings).resolve_asset_graph()
    dictionary = "generated/data_dictionary"
    for path, page, anchor in (
        (["bronze", "bronze_users"], dictionary, "#bronze_users"),
        (["silver", "silver_user_sessions"], dictionary, "#silver_user_sessions"),
        (["dashboards", "static_site"], "how-to/dashboards", ""),
    ):
        link = f"[docs/{page}.md{anchor}](https://docs.example.com/monstera/{page}.html{anchor})"
        assert f"\n\nPage: {link}" in (graph.get(dg.AssetKey(path)).description or "")


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_every_column_has_a_type_and_a_description(graph: AssetGraph, table: Table) -> None:
    node = graph.get(dg.AssetKey([table.layer.value, table.name]))
    schema = node.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    assert schema.columns
    assert [column.name for column in schema.columns] == [column.name for column in table.columns]
    for column in schema.columns:
        assert column.type, column.name
        assert column.type != "string", f"{column.name} has no type of the engine"
        assert (column.description or "").endswith("."), f"{column.name} is not described"


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_a_partitioned_table_names_the_date_column_of_its_days(
    graph: AssetGraph, table: Table
) -> None:
    node = graph.get(dg.AssetKey([table.layer.value, table.name]))
    assert node.is_partitioned is (table.partition_column is not None)
    if not node.is_partitioned:
        assert "partition_expr" not in node.metadata
        return
    assert isinstance(node.partitions_def, dg.DailyPartitionsDefinition)
    assert node.partitions_def.timezone == "UTC"
    assert node.backfill_policy == dg.BackfillPolicy.single_run()
    named = node.metadata["partition_expr"]
    schema = node.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    [column] = [column for column in schema.columns if column.name == named]
    assert column.type == "DATE"
    assert not column.constraints.nullable


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_every_table_has_its_contract_checked(graph: AssetGraph, table: Table) -> None:
    key = dg.AssetKey([table.layer.value, table.name])
    names = {check.name for check in graph.asset_check_keys if check.asset_key == key}
    assert names >= CONTRACT_OF_ALL
    assert ("key_is_unique" in names) is (table.name not in WITHOUT_KEY)
    assert ("values_allowed" in names) is any(column.allowed for column in table.columns)
    assert ("references_exist" in names) is any(column.references for column in table.columns)


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
def test_a_table_is_declared_in_the_module_of_its_name(table: Table) -> None:
    module: ModuleType = importlib.import_module(f"monstera_assets.{table.layer}.{table.name}")
    if (
        table.name == "gold_videos_created_daily"
    ):  # built from the settings; the module contains the default
        assert snake_case(module.VIDEOS_CREATED.metric_name) == table.name.removeprefix("gold_")
    else:
        assert table is module.TABLE
    assert (module.__doc__ or "").startswith(f"{table.name}: ")


def test_references_name_existing_columns() -> None:
    columns = {(table.name, column.name) for table in tables() for column in table.columns}
    for table in tables():
        for column in table.columns:
            if column.references is not None:
                target = (column.references.table, column.references.column)
                assert target in columns, f"{table.name}.{column.name}"


def test_no_email_and_no_name_leaves_bronze() -> None:
    bronze = {
        column.name for table in tables() if table.layer == "bronze" for column in table.columns
    }
    assert {"email", "account_name"} <= bronze
    beyond = [
        f"{table.name}.{column.name}"
        for table in tables()
        if table.layer != "bronze"
        for column in table.columns
        if any(word in column.name for word in PERSONAL)
    ]
    assert beyond == []


@pytest.mark.parametrize("package", ["lifecycle", "prediction"])
def test_pure_packages_import_neither_dagster_nor_duckdb(package: str) -> None:
    imported = {name.split(".")[0] for module in modules(package) for name in imports_of(module)}
    assert imported & {"dagster", "duckdb"} == set()
    assert {"ibis", "monstera_assets"} <= imported


def test_only_the_command_line_imports_the_definitions() -> None:
    importing = {
        name_of(module)
        for module in modules()
        if "monstera_assets.definitions" in imports_of(module)
    }
    assert importing == {"monstera_assets.cli"}
    assert not any("monstera_assets.cli" in imports_of(module) for module in modules())


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_lower_packages_import_only_those_below(package: str) -> None:
    for module in modules(package):
        assert own_packages(module) <= MAY_IMPORT[package], name_of(module)


@pytest.mark.parametrize("package", MUST_NOT_IMPORT)
def test_no_package_imports_those_above(package: str) -> None:
    for module in modules(package):
        assert own_packages(module) & MUST_NOT_IMPORT[package] == set(), name_of(module)


def test_authoring_does_not_import_the_tables() -> None:
    [facade] = [module for module in modules() if name_of(module) == "monstera_assets.authoring"]
    of_layers = {
        name
        for name in imports_of(facade)
        if name.count(".") > 1 and name.split(".")[1] in ("bronze", "silver", "gold")
    }
    assert of_layers == {f"monstera_assets.{layer}.OWNERS" for layer in Layer}
    assert own_packages(facade) == {*Layer, "checks", "lifecycle", "warehouse"}


def test_loading_imports_no_model_library_and_nothing_deprecated_by_dagster(
    tmp_path: Path,
) -> None:
    loading = (
        "import sys; from monstera_assets.definitions import defs; defs().resolve_asset_graph();"
        " print(sorted({'sklearn', 'scipy'} & sys.modules.keys()))"
    )
    out, err = run([sys.executable, "-c", loading], tmp_path)
    assert out == "[]\n"
    assert "Deprecat" not in err
    assert "Supersession" not in err


def test_dagster_validates_the_definitions(tmp_path: Path) -> None:
    said = run([str(Path(sys.executable).with_name("dg")), "check", "defs"], tmp_path)
    assert "Deprecat" not in "".join(said)


def test_the_workspace_matches_the_project() -> None:
    """`dagster dev` loads the definitions that `dg` validates in the test above."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["dg"]
    [origin] = location_origins_from_yaml_paths([str(ROOT / "workspace.yaml")])
    assert isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin)
    target = origin.loadable_target_origin
    assert target.module_name == project["project"]["code_location_target_module"]
    assert origin.location_name == project["project"]["code_location_name"]
    assert (target.attribute, target.working_directory, target.executable_path) == (None,) * 3


def keys_named_twice(node: yaml.Node) -> list[str]:
    """Return the duplicate keys in a YAML document, of which YAML silently uses the last one."""
    if not isinstance(node, yaml.CollectionNode):
        return []
    children = node.value
    repeated: list[str] = []
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        children = [value for _, value in node.value]
    return [*repeated, *(key for child in children for key in keys_named_twice(child))]


def test_dagster_yaml_names_each_key_once() -> None:
    text = (PACKAGE / "operations" / "dagster.yaml").read_text(encoding="utf-8")
    assert keys_named_twice(yaml.compose(text)) == []
    assert keys_named_twice(yaml.compose("a: 1\nb: [{c: 1, c: 2}]\na: 3\n")) == ["a", "c"]


def run(command: list[str], home: Path) -> tuple[str, str]:
    """Run a command in the project with a separate `DAGSTER_HOME`; return stdout and stderr."""
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith("MONSTERA_")
    }
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=outside
        | {
            "DAGSTER_HOME": str(home),
            "MONSTERA_DATABASE": str(home / "monstera.duckdb"),
            "PYTHONWARNINGS": "always",
            "VIRTUAL_ENV": sys.prefix,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


def modules(package: str = "") -> list[Path]:
    """The files of one package, or of all packages."""
    found = sorted((PACKAGE / package).rglob("*.py"))
    assert found
    return found


def name_of(module: Path) -> str:
    """The dotted name of a module."""
    parts = module.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imports_of(module: Path) -> set[str]:
    """The modules that a module imports, anywhere in its code."""
    return set(_imports(ast.parse(module.read_text(encoding="utf-8"))))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "Imports must be absolute."
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_packages(module: Path) -> set[str]:
    """The packages of this project that a module imports from."""
    return {
        name.split(".")[1] for name in imports_of(module) if name.startswith("monstera_assets.")
    }


def test_the_ui_shows_previews(seeds_run: SeedsRun) -> None:
    """Test the previews of each table's latest materialization. Some are computed by hand."""
    latest = {made.asset_key.path[-1]: made for made in seeds_run.materializations}
    for asset in table_assets():
        metadata = latest[asset.table.name].metadata
        assert {preview.title for preview in asset.previews} <= metadata.keys()
        if asset.table.partition_column is None and "as_of_date" in asset.table.relation.columns:
            assert metadata["as_of_date"].value == "2025-06-30"
    states = latest["silver_user_current_state"].metadata["Users by platform state"].value
    assert f"| active | 8 | 40.0% | {'█' * 24} |" in str(states)
    cohorts = latest["gold_retention_cohorts"].metadata["Retention by signup month"].value
    assert "| 2024-07-01 | 3 | 100.0% | 0.0% | 33.3% |" in str(cohorts)


def test_a_printed_query_returns_the_stored_rows(seeds_run: SeedsRun) -> None:
    """Run the printed query of each table and compare its rows with the stored ones."""
    settings = Settings(source=ROOT / "seeds", database=seeds_run.database)
    compared = 0
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        for asset in table_assets(settings):
            if not asset.is_query:
                continue
            query = table_query(asset.table.name, settings)
            ends = {True: seeds_run.days.first, False: seeds_run.days.last}
            bind(connection, {name: ends["first" in name] for name in query.parameters})
            latest = {name for name, days in asset.days.items() if days is LATEST_DAY}
            bind(connection, {f"{name}_first_day": seeds_run.days.last for name in latest})
            names = ", ".join(column.name for column in asset.table.data_columns)
            stored = f"SELECT {names} FROM {asset.table.qualified_name}"
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE printed AS SELECT {names} FROM ({formatted(query)})"
            )
            differing = connection.execute(
                f"SELECT count(*) FROM (({stored} EXCEPT ALL FROM printed)"
                f" UNION ALL (FROM printed EXCEPT ALL {stored}))"
            ).fetchall()
            assert differing == [(0,)], asset.table.name
            compared += 1
    assert compared > 40


def test_a_query_of_an_unknown_table_is_an_error_that_names_the_tables() -> None:
    settings = Settings(source=ROOT / "seeds")
    with pytest.raises(SettingsError, match=r"does not exist\. .*silver_user_state_history"):
        table_query("silver_user_state_hystory", settings)
    with pytest.raises(SettingsError, match="bronze_events has no query"):
        table_query("bronze_events", settings)
