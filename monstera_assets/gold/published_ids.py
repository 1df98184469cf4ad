"""Publish ids in tables in which `all` means a total and `none` means a missing id.

A product or feature id that is `all` or `none` is published with a trailing underscore, as in `all_`.
An id such as `all_` gets another underscore, as in `all__`, so that ids stay distinct.
"""

from __future__ import annotations

import re

import ibis.expr.types as ir

TOTAL = "all"
NONE = "none"

_OWN = rf"^((?:{TOTAL}|{NONE})_*)$"


def published_ids(ids: ir.StringValue) -> ir.StringValue:
    """Return ids in their published form."""
    return ids.re_replace(_OWN, r"\1_")


def published_id(own: str) -> str:
    """Return an id in its published form."""
    return re.sub(_OWN, r"\1_", own)


def own_id(published: str) -> str:
    """Return the original form of a published id."""
    return re.sub(rf"^((?:{TOTAL}|{NONE})_*)_$", r"\1", published)
