"""RudderStack: its calls and warehouse tables have Segment's columns, with names of its own for times.

In a data lake, times are microseconds in `_timestamp`. See `segment`.
"""

from __future__ import annotations

from monstera_assets.imports import segment

TOOL = segment.TOOL
