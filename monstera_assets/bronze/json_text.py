"""Query JSON in text columns with DuckDB functions that Ibis does not provide."""

# mypy: disable-error-code="untyped-decorator, empty-body"

from __future__ import annotations

import ibis
import ibis.expr.types as ir


@ibis.udf.scalar.builtin(name="json_valid", signature=(("string",), "boolean"))
def _json_valid(text: str) -> bool: ...


@ibis.udf.scalar.builtin(name="json_type", signature=(("string",), "string"))
def _json_type(text: str) -> str: ...


@ibis.udf.scalar.builtin(name="json_extract_string", signature=(("string", "string"), "string"))
def _json_extract_string(document: str, path: str) -> str: ...


def is_json_object(text: ir.StringValue) -> ir.BooleanValue:
    """Return whether a string is a JSON object."""
    # json_type fails on invalid JSON, so cases() calls json_type only for valid JSON.
    is_object = ibis.cases((_json_valid(text), _json_type(text) == "OBJECT"), else_=False)
    # DuckDB also accepts NaN and Infinity, which are not valid JSON.
    may_have_one = ibis.or_(*(text.contains(word) for word in ("NaN", "nan", "NAN", "nf", "NF")))
    values = text.re_replace(r'"(?:[^"\\]|\\.)*"', "")
    return is_object & ~(may_have_one & values.re_search("(?i)nan|inf"))


def text_at(document: ir.StringValue, key: str) -> ir.StringValue:
    """Return a JSON key's value as text, or null if the key is missing or its value is null."""
    return _json_extract_string(document, f"$.{key}")
