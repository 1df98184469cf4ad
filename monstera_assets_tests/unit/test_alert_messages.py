"""Test the setting `alert_urls`, and the text and length of messages."""

from __future__ import annotations

import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from apprise import Apprise, NotifyFormat
from apprise.conversion import convert_between
from apprise.plugins.base import NotifyBase

from monstera_assets.checks.rules import Finding, with_values
from monstera_assets.lifecycle.policy import LifecyclePolicy
from monstera_assets.operations.alerts.message import (
    AlertEvent,
    Item,
    Message,
    clean,
    code,
    grid,
    table,
)
from monstera_assets.settings import ENVIRONMENT_PREFIX, Settings, SettingsError, load_settings
from monstera_assets.settings.alert_urls import Route, parse_entries

SECRET = "hunter2"  # noqa: S105
UI = "http://127.0.0.1:3000"


@pytest.fixture(autouse=True)
def _nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" , ", []),
        ("slack://a/b/c", [("P3", set(), "slack://a/b/c")]),
        (
            "slack://a, mailto://u:p@x.org?to=a@x.org,b@x.org json://h",
            [
                ("P3", set(), "slack://a"),
                ("P3", set(), "mailto://u:p@x.org?to=a@x.org,b@x.org"),
                ("P3", set(), "json://h"),
            ],
        ),
        (
            "P0=slack://a\nteam:x+P1+team:y=json://h/?a=b",
            [("P0", set(), "slack://a"), ("P1", {"team:x", "team:y"}, "json://h/?a=b")],
        ),
        ('["P2=slack://a b, json://c"]', [("P2", set(), "slack://a b, json://c")]),
    ],
)
def test_entries_of_the_environment(
    text: str, expected: list[tuple[str, set[str], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONSTERA_ALERT_URLS", text)
    entries = parse_entries(load_settings().alert_urls)
    assert [
        (entry.route.least_urgent, set(entry.route.owners), entry.url.get_secret_value())
        for entry in entries
    ] == expected
    assert [entry.position for entry in entries] == list(range(1, len(expected) + 1))


@pytest.mark.parametrize(
    "text", ['alert_urls = ["slack://a", "P1=json://b"]', 'alert_urls = "slack://a P1=json://b"']
)
def test_entries_of_the_file(text: str) -> None:
    Path("monstera.toml").write_text(text)
    assert [url.get_secret_value() for url in load_settings().alert_urls] == [
        "slack://a",
        "P1=json://b",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SECRET, "entry 1 is neither a URL such as slack://... nor ROUTE=URL"),
        (
            f"slack://a P7=json://{SECRET}",
            "entry 2: the route before = must be one of the levels P0",
        ),
        (f"P0+P1=json://{SECRET}", "entry 1: the route before = must be one of the levels"),
        (f"=json://{SECRET}", "entry 1: the route before = must be one of the levels"),
        (f"{SECRET}=json://a", "entry 1: the route before = must be one of the levels"),
        (f'["{SECRET}', "starts with [ but is not a JSON list"),
        (f'[["{SECRET}"]]', "entry 1 is not a string"),
    ],
)
def test_a_wrong_entry_is_named_and_not_shown(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MONSTERA_ALERT_URLS", text)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert "(from MONSTERA_ALERT_URLS" in str(raised.value)
    assert expected in str(raised.value)
    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET not in str(error)
        assert SECRET not in repr(error)
        error = error.__cause__ or error.__context__


def test_settings_show_no_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONSTERA_ALERT_URLS", f"slack://{SECRET}")
    settings = load_settings()
    shown = (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump()))
    assert all(SECRET not in text for text in shown)


@pytest.mark.parametrize("url", ["javascript:x", "127.0.0.1:3000", "http://u:p@host", "http://a b"])
def test_address_of_the_ui(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().ui_url == "http://127.0.0.1:3000"
    monkeypatch.setenv("MONSTERA_UI_URL", url)
    with pytest.raises(SettingsError, match="ui_url"):
        load_settings()


@pytest.mark.parametrize(
    ("route", "level", "owners", "accepted"),
    [
        (Route(), "P3", ["team:a"], True),
        (Route("P1"), "P0", [], True),
        (Route("P1"), "P1", ["team:a"], True),
        (Route("P1"), "P2", ["team:a"], False),
        (Route("P3", frozenset({"team:a"})), "P2", ["team:a", "team:b"], True),
        (Route("P3", frozenset({"team:a"})), "P2", ["team:b"], False),
        (Route("P3", frozenset({"team:a"})), "P2", [], True),
        (Route("P0", frozenset({"team:a"})), "P2", [], False),
    ],
)
def test_routes(route: Route, level: str, owners: list[str], accepted: bool) -> None:
    assert route.accepts(level, owners) is accepted


def item(title: str, *, news: AlertEvent = AlertEvent.NEW, level: str = "P2", **more: Any) -> Item:
    return Item(f"check:{title}", title, news, level, "2025-01-02 05:00 UTC", **more)


def message(*items: Item) -> Message:
    return Message.of(items, [f"Run of `job`: <{UI}/runs/abc>"])


@pytest.mark.parametrize(
    ("items", "subject"),
    [
        ([item("t.a")], "[P2] Monstera: t.a fails"),
        ([item("t.a"), item("t.b", level="P0")], "[P0] Monstera: t.b and 1 other fail"),
        ([item("t.a", news=AlertEvent.RECOVERED)], "[P2 recovered] Monstera: t.a recovered"),
        (
            [item("t.a", level="P3"), item("t.b", level="P0", news=AlertEvent.RECOVERED)],
            "[P3] Monstera: t.a fails",
        ),
    ],
)
def test_subject(items: list[Item], subject: str) -> None:
    assert message(*items).subject() == subject


@pytest.mark.parametrize("limit", [500, 1800, 8000])
def test_a_message_of_many_is_bounded_and_counts_what_it_leaves_out(limit: int) -> None:
    rows = tuple(("x" * 40,) * 8 for _ in range(6))
    many = [item(f"table.check_{number:03}", rows=rows) for number in range(300)]
    text = message(*many).body(limit)
    assert len(text) <= limit
    assert text.endswith("/runs/abc>")
    shown = text.count("**P2: `table.check_")
    assert 0 < shown < 300
    assert f"… and {300 - shown} more. Open the run to see them." in text
    assert text.count("```") % 2 == 0


def test_figures_are_rounded_to_three_digits_and_ids_are_not() -> None:
    figures = (0.123456789, -0.000123456, 12.3456, 12345.678, 12345, "1.23456", Decimal("0.5"))
    finding = Finding("r", 1, tuple("abcdefg"), (figures,))
    assert finding.as_markdown().splitlines()[-1] == (
        "| 0.123 | -0.000123 | 12.3 | 12,346 | 12345 | 1.23456 | 0.5 |"
    )


def test_what_is_seen_is_a_figure_or_a_number_of_rows() -> None:
    columns = ("metric", "metric_date", "observed", "expected")
    row = ("Churn Rate", date(2025, 1, 2), 0.034217, 0.0213)
    assert Finding("r", 1, columns, (row,)).observed == "Churn Rate: 0.0342, expected 0.0213."
    assert Finding("r", 3, columns, (row, row, row)).observed == (
        "Churn Rate: 0.0342, expected 0.0213, and 2 more."
    )
    assert (
        Finding("r", 1200, ("user_id",), (("u1",),)).observed == "1,200 rows that break the rule."
    )
    assert Finding("r", 1, note="could not be evaluated: locked").observed == (
        "could not be evaluated: locked"
    )


def test_an_expectation_has_the_value_of_its_threshold() -> None:
    policy = LifecyclePolicy()
    text = "The churn rate has not risen by more than max_churn_increase within a week."
    assert with_values(text, policy) == (
        "The churn rate has not risen by more than 20% within a week."
    )
    assert with_values("at least min_alert_population of silver_facts", policy) == (
        "at least 30 of silver_facts"
    )
    assert with_values("min_schema_compliance", policy) == "95%"


def test_examples_come_back_from_markdown_as_they_were() -> None:
    values = ("a | b", "`c` *d* [e](f)", "<g> & &lt; &amp;", "h\\", "\\|", None)
    finding = Finding("r", 1, ("one", "two", "three", "four", "five", "six"), (values,))
    assert table(finding.as_markdown(), rows=5, width=40) == (
        ("one", "two", "three", "four", "five", "six"),
        ("a | b", "`c` *d* [e](f)", "<g> & &lt; &amp;", "h\\", "\\|", ""),
    )


def test_an_address_is_hidden_before_the_text_is_cut() -> None:
    assert clean("to ann.bee+x@mail.example.com now", 100) == "to (e-mail) now"
    assert clean("to ann@example.com", 8) == "to (e-m…"


HOSTILE = "``` <!channel> <b>x</b> *y* [z](http://evil) @everyone"


def test_data_is_text_in_slack_and_in_e_mail() -> None:
    text = message(item("t.a", seen=code(HOSTILE), rows=(("n",), (HOSTILE,)))).body()
    html = convert_between(  # type: ignore[no-untyped-call]
        NotifyFormat.MARKDOWN, NotifyFormat.HTML, content=text
    )
    assert "<b>" not in html
    assert "evil</a>" not in html
    assert 'href="http://evil' not in html
    assert html.count("&lt;b&gt;x&lt;/b&gt;") == 2
    service = Apprise.instantiate("slack://T12345678/B12345678/" + "x" * 24)
    assert isinstance(service, NotifyBase)
    slack = service.dialect_convert(text, NotifyFormat.MARKDOWN)
    assert "<!channel>" not in slack
    assert slack.count("&lt;!channel&gt;") == 2
    assert "<http://evil" not in slack
    assert "```" not in grid((("n",), (HOSTILE,))).removeprefix("```").removesuffix("```")
