"""The page of states, moves and thresholds, made from the data that engine and checks read."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from pydantic import BaseModel

from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.lifecycle.states import (
    ACCOUNT_TRANSITIONS,
    PRODUCT_TRANSITIONS,
    USER_TRANSITIONS,
    Transition,
)
from monstera_assets.markdown import code, mermaid, page, table, text

State = TypeVar("State", bound=StrEnum)


def states_page() -> str:
    """States and moves of users, product relationships and accounts, and the thresholds."""
    return page(
        "States and moves",
        "`monstera_assets/lifecycle/states.py` and `policy.py`",
        [
            "A move goes from the state at the end of a day to that at the end of the next; staying"
            " is always allowed. A published move is in the framework's matrix. An extension is"
            " not, and its reason says why the rules need it all the same. The blocking check"
            " `transitions_are_allowed` of the transition tables compares all observed moves with"
            " these.",
            *_section(
                "Users",
                "A user's state on the platform (`platform_state`).",
                USER_TRANSITIONS,
            ),
            *_section(
                "Product relationships",
                "A user's state in a product (`current_state` of `silver_user_product_states`)."
                " `never_adopted` is the state of a user who has no row in the history: it has no"
                " moves of its own. The framework publishes no matrix for these states.",
                PRODUCT_TRANSITIONS,
            ),
            *_section(
                "Accounts",
                "An account's state (`current_state` of `silver_account_current_state`). The"
                " framework's matrix also has moves into deleted. No fact of the inputs deletes an"
                " account, so they are left out.",
                ACCOUNT_TRANSITIONS,
            ),
            "## Thresholds",
            "The fields of `LifecyclePolicy`; those of the segments are on [their own"
            " page](segments.md). Each can be set as `MONSTERA_POLICY__` and its name in"
            " capitals, or under `[policy]` in `monstera.toml`.",
            thresholds(LifecyclePolicy),
        ],
    )


def thresholds(policy: type[BaseModel]) -> str:
    """The thresholds of a policy with their defaults; policies within it are left out."""
    defaults = policy()
    return table(
        ("name", "default", "description"),
        (
            (code(name), code(_shown(value)), text(field.description or ""))
            for name, field in policy.model_fields.items()
            if not isinstance(value := getattr(defaults, name), BaseModel)
        ),
    )


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _section(
    title: str, introduction: str, moves: Mapping[State, Mapping[State, Transition]]
) -> tuple[str, ...]:
    rows = [
        (
            code(origin),
            code(target),
            "published" if move.published else "extension",
            text(move.reason),
        )
        for origin, targets in moves.items()
        for target, move in targets.items()
    ]
    return (
        f"## {title}",
        introduction,
        state_diagram(moves),
        table(("from", "to", "published or extension", "reason"), rows),
    )


def state_diagram(moves: Mapping[State, Mapping[State, Transition]]) -> str:
    """The moves as a state diagram; a state without a way out is final."""
    lines = ["stateDiagram-v2"]
    for origin, targets in moves.items():
        lines += [
            f"    {origin} --> {target}{'' if move.published else ' : extension'}"
            for target, move in targets.items()
        ]
        if not targets:
            lines.append(f"    {origin} --> [*]")
    return mermaid(lines)
