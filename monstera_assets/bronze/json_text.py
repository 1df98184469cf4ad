"""JSON in text columns, through DuckDB functions that Ibis does not provide."""

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
    """Return whether a text is a JSON object."""
    is_object = (_or_null(_json_type(text)) == "OBJECT").fill_null(False)
    # DuckDB also accepts the numbers NaN and Infinity, which are not JSON.
    may_have_one = ibis.or_(*(text.contains(word) for word in ("NaN", "nan", "NAN", "nf", "NF")))
    values = text.re_replace(r'"(?:[^"\\]|\\.)*"', "")
    # cases() evaluates the regular expressions, which are slow, only where needed.
    return ibis.cases(
        (~is_object, False), (may_have_one, ~values.re_search("(?i)nan|inf")), else_=True
    )


def text_at(document: ir.StringValue, key: str) -> ir.StringValue:
    """Return the value of a key in a JSON object as text, or null if it is absent or null."""
    return _json_extract_string(document, f"$.{key}")
