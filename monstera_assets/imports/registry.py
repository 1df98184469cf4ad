"""The tools whose exports can be imported."""

from __future__ import annotations

from collections.abc import Mapping

from monstera_assets.imports import (
    amplitude,
    ga4,
    mixpanel,
    posthog,
    rudderstack,
    segment,
    snowplow,
    stripe,
)
from monstera_assets.imports.tools import Tool
from monstera_assets.settings.imports import ImportKind

TOOLS: Mapping[ImportKind, Tool] = {
    ImportKind.POSTHOG: posthog.TOOL,
    ImportKind.SEGMENT: segment.TOOL,
    ImportKind.RUDDERSTACK: rudderstack.TOOL,
    ImportKind.AMPLITUDE: amplitude.TOOL,
    ImportKind.MIXPANEL: mixpanel.TOOL,
    ImportKind.GA4: ga4.TOOL,
    ImportKind.SNOWPLOW: snowplow.TOOL,
    ImportKind.STRIPE: stripe.TOOL,
}
"""The tools with a module. Tables have a shape of their own: see `own_tables`."""
