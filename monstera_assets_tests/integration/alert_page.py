"""The examples in docs/how-to/alerts.md: an alert of each kind as text, e-mail and Slack message.

    python -m monstera_assets_tests.integration.alert_page

The command writes the examples to the page. Real runs of a small graph fail and recover, and services
on localhost receive the messages.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from apprise.plugins.slack import NotifySlack

from monstera_assets_tests.integration.alert_examples import House, Service, service
from monstera_assets_tests.integration.example_assets import day
from monstera_assets_tests.integration.example_runs import batched_instance

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "alerts.md"
BEGIN, END = "<!-- examples -->\n", "<!-- end of examples -->\n"
_RUN = "e550ce81-5fe1-4d07-946b-c08f525277f7"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAMES = (("n1", "one"),)


@contextmanager
def mail_server() -> Iterator[tuple[int, list[bytes]]]:
    """Receive e-mails on localhost; yield the port and the messages."""
    received: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 ready\r\n")
            while line := self.rfile.readline():
                command = line[:4].upper().strip()
                if command == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    received.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")
                if command == b"QUIT":
                    return

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1], received
        finally:
            server.shutdown()
            thread.join()


def _be_late(house: House) -> None:
    house.run(day(11), names=_NAMES)
    house.tick()
    house.built_at = datetime(2025, 1, 13, 7, 1, tzinfo=UTC).timestamp()
    house.seconds_later = 0
    house.evaluate_freshness()
    house.seconds_later = 60


KINDS: tuple[tuple[str, datetime, Callable[[House], object]], ...] = (
    (
        "A figure crosses its threshold",
        datetime(2025, 1, 2, 5, tzinfo=UTC),
        lambda house: house.run(day(1), amount=13),
    ),
    (
        "The failure continues for a week",
        datetime(2025, 1, 9, 5, tzinfo=UTC),
        lambda house: house.run(day(8), amount=13),
    ),
    (
        "The failure is resolved",
        datetime(2025, 1, 10, 5, tzinfo=UTC),
        lambda house: house.run(day(9)),
    ),
    (
        "A blocking check fails",
        datetime(2025, 1, 11, 5, tzinfo=UTC),
        lambda house: house.run(day(10), names=(("n1", "First"), ("n1", "Again"))),
    ),
    (
        "A run fails",
        datetime(2025, 1, 11, 6, tzinfo=UTC),
        lambda house: house.run(day(10), error="IO Error: No space left on device"),
    ),
    (
        "Tables are late",
        datetime(2025, 1, 12, 5, tzinfo=UTC),
        _be_late,
    ),
)
"""Each kind of alert, when it happens, and what happens."""


def examples(folder: Path) -> str:
    """Return the examples in Markdown."""
    parts = []
    with (
        mail_server() as (port, mails),
        service() as slack,
        service() as text,
        patch.object(NotifySlack, "webhook_url", f"http://127.0.0.1:{slack.port}/services"),
        batched_instance(folder / "home") as instance,
    ):
        urls = (
            text.url(),
            f"mailto://127.0.0.1:{port}/?mode=insecure&from=monstera@example.com&to=a@example.com",
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        )
        house = House(folder, instance, urls)
        for title, when, happens in KINDS:
            house.built_at, house.seconds_later = when.timestamp(), 0
            happens(house)
            refused = house.tick()
            assert refused == "", refused
            parts.append(f"### {title}\n\n{_forms(text, mails[-1], slack)}")
    return _UUID.sub(_RUN, "\n".join(parts))


def _forms(text: Service, mail: bytes, slack: Service) -> str:
    parsed = email.message_from_bytes(mail, policy=email.policy.default)
    body = parsed.get_body(("html", "plain"))
    assert body is not None
    html = body.get_content().strip().replace("\r\n", "\n")
    last = text.received[-1]
    payload = json.dumps(_without_time(slack.bodies[-1]), indent=2, ensure_ascii=False)
    return (
        f"````text\n{last.title}\n\n{last.text}\n````\n\n"
        f"As an e-mail:\n\n````html\nSubject: {parsed['subject']}\n\n{html}\n````\n\n"
        f"As a Slack message:\n\n````json\n{payload}\n````\n"
    )


def _without_time(value: object) -> object:
    """Leave out the time at which Apprise sends a message."""
    if isinstance(value, dict):
        return {key: _without_time(one) for key, one in value.items() if key != "ts"}
    return [_without_time(one) for one in value] if isinstance(value, list) else value


def main() -> None:
    """Write the examples to the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    with tempfile.TemporaryDirectory() as folder:
        made = examples(Path(folder))
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
