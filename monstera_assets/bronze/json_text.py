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


@ibis.udf.scalar.builtin(name="json_object", signature=(("string", "string"), "json"))
def _json_object(key: str, value: str) -> str: ...


@ibis.udf.scalar.builtin(name="json_merge_patch", signature=(("string", "json"), "json"))
def _json_merge_patch(document: str, patch: str) -> str: ...


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


def text_or_null_at(text: ir.StringValue, key: str) -> ir.StringValue:
    """Return a JSON key's value as text, or null if the key is missing or the text is not JSON."""
    # Parsing is slow, and a key may be written with escapes.
    may_have_key = text.contains(key) | text.contains("\\u")
    return ibis.ifelse(may_have_key, _or_null(text_at(text, key)), None)


def with_text_at(document: ir.StringValue, key: str, value: ir.StringValue) -> ir.StringValue:
    """Return a JSON object with another value for a key."""
    return _json_merge_patch(document, _json_object(key, value)).cast("string")
