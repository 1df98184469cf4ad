"""Define the company's products, event types and workflows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

FAMILIES = ("content_creation", "collaboration", "analytics")


@dataclass(frozen=True)
class Act:
    """A qualifying event type, with its catalog node and its share of the product's events."""

    event_type: str
    node: str
    share: float
    activates: bool = False


@dataclass(frozen=True)
class Product:
    """A product with its features and acts. The first act activates users.

    `above` pairs each feature with its parent node.
    """

    product_id: str
    family: str
    acts: tuple[Act, ...]
    above: tuple[tuple[str, str], ...] = ()


PRODUCTS = (
    Product(
        "video_studio",
        "content_creation",
        (
            Act("video_created", "video_studio", 0.22, activates=True),
            Act("video_edited", "video_studio", 0.38),
            Act("video_published", "video_studio", 0.20),
            Act("captions_added", "video_captions", 0.14),
            Act("captions_translated", "caption_translation", 0.06),
        ),
        (("video_captions", "video_studio"), ("caption_translation", "video_captions")),
    ),
    Product(
        "design_canvas",
        "content_creation",
        (
            Act("design_created", "design_canvas", 0.24, activates=True),
            Act("design_edited", "design_canvas", 0.42),
            Act("design_published", "design_canvas", 0.16),
            Act("template_applied", "template_library", 0.18),
        ),
        (("template_library", "design_canvas"),),
    ),
    Product(
        "team_spaces",
        "collaboration",
        (
            Act("project_created", "team_spaces", 0.18, activates=True),
            Act("project_shared", "team_spaces", 0.24),
            Act("member_invited", "team_spaces", 0.08),
            Act("comment_added", "review_comments", 0.36),
            Act("approval_given", "approval_flows", 0.14),
        ),
        (("review_comments", "team_spaces"), ("approval_flows", "team_spaces")),
    ),
    Product(
        "live_review",
        "collaboration",
        (
            Act("review_started", "live_review", 0.45, activates=True),
            Act("review_completed", "live_review", 0.40),
            Act("annotation_drawn", "review_annotations", 0.15),
        ),
        (("review_annotations", "live_review"),),
    ),
    Product(
        "insight_dashboards",
        "analytics",
        (
            Act("dashboard_created", "insight_dashboards", 0.30, activates=True),
            Act("dashboard_edited", "insight_dashboards", 0.45),
            Act("report_scheduled", "scheduled_reports", 0.25),
        ),
        (("scheduled_reports", "insight_dashboards"),),
    ),
)

LOGGED_IN = "user_logged_in"
VIEWED = "page_viewed"
CHANGED_SETTINGS = "settings_changed"

WITH_TARGET = ("member_invited", "project_shared")
"""Event types whose target is another person in the account."""

WORKFLOWS = (
    ("video_publishing", "Video Publishing", "video_studio", 1, "video_created"),
    ("video_publishing", "Video Publishing", "video_studio", 2, "video_edited"),
    ("video_publishing", "Video Publishing", "video_studio", 3, "video_published"),
    ("design_handoff", "Design Handoff", "design_canvas", 1, "design_created"),
    ("design_handoff", "Design Handoff", "design_canvas", 2, "design_published"),
    ("live_approval", "Live Approval", "live_review", 1, "review_started"),
    ("live_approval", "Live Approval", "live_review", 2, "review_completed"),
)
"""Rows of the `workflows` input, with the columns in `WORKFLOW_COLUMNS`."""

WORKFLOW_COLUMNS = ("workflow_id", "workflow_name", "product_id", "step_number", "event_type")


@dataclass(frozen=True)
class EventType:
    """The meaning of an event code."""

    event_type: str
    node: str | None
    qualifies: bool = False
    activates: bool = False


EVENT_TYPES = (
    EventType(LOGGED_IN, None),
    EventType(CHANGED_SETTINGS, None),
    *(EventType(VIEWED, product.product_id) for product in PRODUCTS),
    *(
        EventType(act.event_type, act.node, qualifies=True, activates=act.activates)
        for product in PRODUCTS
        for act in product.acts
    ),
)
"""Event types, indexed by code."""

CATALOG_COLUMNS = (
    "product_id",
    "product_name",
    "product_family_id",
    "tier",
    "parent_product_id",
    "is_active",
    "created_at",
    "product_owner",
    "activation_event_types",
    "qualifying_event_types",
    "active_days",
    "dormant_days",
)


def catalog_rows(first_day: date) -> list[tuple[str | bool | int | None, ...]]:
    """Return the rows of `product_catalog`. All nodes are created one year before the first day."""
    nodes: list[tuple[str, str, str, str | None, tuple[Act, ...]]] = [
        (family, family, "family", None, ()) for family in FAMILIES
    ]
    for product in PRODUCTS:
        family = product.family
        nodes.append((product.product_id, family, "product", family, product.acts))
        for node, parent in product.above:
            tier = "feature" if parent == product.product_id else "sub_feature"
            below = {node, *(child for child, above in product.above if above == node)}
            acts = tuple(act for act in product.acts if act.node in below)
            nodes.append((node, family, tier, parent, acts))
    return [
        (
            *(node, node.replace("_", " ").title(), family, tier, parent, True),
            f"{first_day - timedelta(days=365)} 00:00:00",
            f"{family.replace('_', '-')}-team",
            "|".join(act.event_type for act in acts if act.activates) or None,
            "|".join(act.event_type for act in acts) or None,
            *(None, None),
        )
        for node, family, tier, parent, acts in nodes
    ]
