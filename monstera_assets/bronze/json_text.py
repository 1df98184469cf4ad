"""Query JSON in text columns with DuckDB functions that Ibis does not provide."""

# mypy: disable-error-code="untyped-decorator, empty-body"

from __future__ import annotations

import ibis
import ibis.expr.types as ir


@ibis.udf.scalar.builtin(name="json_type", signature=(("string",), "string"))
def _json_type(text: str) -> str: ...


@ibis.udf.scalar.builtin(name="try", signature=(("string",), "string"))
def _or_null(value: str) -> str:
    """Return a value, or null if computing it fails."""


@ibis.udf.scalar.builtin(name="json_extract_string", signature=(("string", "string"), "string"))
def _json_extract_string(document: str, path: str) -> str: ...


def is_json_object(text: ir.StringValue) -> ir.BooleanValue:
    """Return whether a string is a JSON object."""
    is_object = (_or_null(_json_type(text)) == "OBJECT").fill_null(False)
    # DuckDB also accepts NaN and Infinity, which are not valid JSON.
    may_have_one = ibis.or_(*(text.contains(word) for word in ("NaN", "nan", "NAN", "nf", "NF")))
    values = text.re_replace(r'"(?:[^"\\]|\\.)*"', "")
    # Regular expressions are slow, so cases() evaluates them only where needed.
    return ibis.cases(
        (~is_object, False), (may_have_one, ~values.re_search("(?i)nan|inf")), else_=True
    )


def text_at(document: ir.StringValue, key: str) -> ir.StringValue:
    """Return a JSON key's value as text, or null if the key is missing or its value is null."""
    return _json_extract_string(document, f"$.{key}")
