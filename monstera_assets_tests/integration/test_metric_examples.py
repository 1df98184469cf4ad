"""Each metric's worked example is a calculation with figures of the seeds that the tables confirm."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from statistics import mean, median
from typing import Any

import duckdb
import pytest

from monstera_assets.definitions import metric_tables
from monstera_assets.documentation.metric_examples import EXAMPLES
from monstera_assets_tests.integration.example_runs import SeedsRun

DECIMALS = 4
METRICS = {metric.name: metric for table in metric_tables() for metric in table.metrics}
TABLES = {table.name: table for table in metric_tables()}
FUNCTIONS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "count": len,
    "sum": sum,
    "sum_of_squares": lambda values: sum(value * value for value in values),
    "mean": mean,
    "median": median,
}
OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@pytest.fixture(scope="module")
def seeds(seeds_run: SeedsRun) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(seeds_run.database), read_only=True) as connection:
        yield connection


def parsed(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body


def operands(node: ast.expr) -> list[Any]:
    """Return the operands of a formula in order: ids as strings and numbers as fractions."""
    if isinstance(node, ast.Call):
        return [operand for argument in node.args for operand in operands(argument)]
    if isinstance(node, ast.BinOp):
        return [*operands(node.left), *operands(node.right)]
    if isinstance(node, ast.Name):
        return [node.id]
    return [evaluated(node)]


def evaluated(node: ast.expr) -> Fraction:
    """Evaluate a formula."""
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        return Fraction(FUNCTIONS[node.func.id](operands(node)))
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](evaluated(node.left), evaluated(node.right))
    return Fraction(ast.unparse(node))


def exact(value: Any) -> Any:
    return value if isinstance(value, str) else Fraction(str(value))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_computed_from_the_seeds(name: str, seeds: duckdb.DuckDBPyConnection) -> None:
    example = EXAMPLES[name]
    formula, _, result = example.calculation.partition(" = ")
    node = parsed(formula)
    stated = operands(node)
    selected = [exact(cell) for row in seeds.execute(example.query).fetchall() for cell in row]
    if isinstance(node, ast.Call):
        assert selected == stated
    else:  # an operand that is used twice is selected once
        assert [*dict.fromkeys(selected)] == [*dict.fromkeys(stated)]
    value = evaluated(node)
    assert evaluated(parsed(result)) == round(value, DECIMALS)
    [(stored,)] = seeds.execute(example.result_query(METRICS[name].column_name)).fetchall()
    assert float(stored) == pytest.approx(float(value), rel=1e-12)


def test_every_metric_has_an_example() -> None:
    assert set(EXAMPLES) == set(METRICS)
