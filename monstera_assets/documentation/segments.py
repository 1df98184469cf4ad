"""The page of behavioural segments, made from the data that engine and checks read."""

from __future__ import annotations

from monstera_assets.documentation.states import thresholds
from monstera_assets.lifecycle.policy import LifecyclePolicy, SegmentPolicy
from monstera_assets.lifecycle.segments import COMPOSITE, DIMENSIONS, Dimension, segment_version
from monstera_assets.markdown import code, page, table, text


def segments_page() -> str:
    """Dimensions with the rule of each value, by the default thresholds, and the thresholds."""
    policy = LifecyclePolicy()
    return page(
        "Behavioural segments",
        "`monstera_assets/lifecycle/segments.py` and `policy.py`",
        [
            "In each dimension a user has the value of the first rule that applies, so exactly one."
            " The rules read the measures that are stored beside the segments in"
            " `silver_user_segment_history` and `silver_behavioral_segments`; the blocking check"
            " `segments_follow_their_rules` asks each rule anew.",
            f"`segment_version` names rules and thresholds: {code(segment_version(policy))} by"
            " default, another one for any other threshold.",
            *(
                block
                for dimension in (*DIMENSIONS, COMPOSITE)
                for block in _section(dimension, policy.segments)
            ),
            "## Thresholds",
            "The fields of `SegmentPolicy`. Each can be set as `MONSTERA_POLICY__SEGMENTS__` and its"
            " name in capitals, or under `[policy.segments]` in `monstera.toml`.",
            thresholds(SegmentPolicy),
        ],
    )


def _section(dimension: Dimension, policy: SegmentPolicy) -> tuple[str, ...]:
    return (
        f"## {dimension.name}",
        text(dimension.description),
        table(
            ("value", "rule"),
            (
                (code(segment.value), text(segment.meaning.format(**policy.model_dump())))
                for segment in dimension.segments
            ),
        ),
    )
