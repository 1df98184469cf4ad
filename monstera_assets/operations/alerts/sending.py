"""Sending through Apprise, which knows e-mail, Slack and a hundred other services by URL.

Nothing of what Apprise, or the HTTP library below it, has to say of a URL gets out: it goes neither
to a log nor into an error.
"""

from __future__ import annotations

import logging

import apprise
from apprise import NotifyFormat, NotifyType, OverflowMode
from apprise.plugins.base import NotifyBase
from pydantic import SecretStr

from monstera_assets.operations.alerts.message import BODY_LIMIT, Message

# They log hosts, paths with tokens and answers. Apprise's own command line shows them to who has to
# find out why a URL does not work.
for _name in ("apprise", "urllib3", "requests"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

_SMALLEST_BODY = 500
_ROOM_FOR_TITLE = 200
_TYPES = {"P0": NotifyType.FAILURE, "P1": NotifyType.FAILURE}


class Service:
    """A service that a URL leads to."""

    def __init__(self, url: SecretStr) -> None:
        """Nothing is connected to.

        Raises:
            ValueError: Apprise has no service for the URL, or lacks parts of it.
        """
        asset = apprise.AppriseAsset(
            app_id="Monstera", app_desc="Monstera", async_mode=False, secure_logging=True
        )
        plugin = None
        try:
            plugin = apprise.Apprise.instantiate(url.get_secret_value(), asset=asset)
        except Exception:  # its message may hold the URL
            plugin = None
        if not isinstance(plugin, NotifyBase):
            raise ValueError("is no URL that Apprise can send to; `apprise --details` lists them")
        if plugin.overflow_mode == OverflowMode.UPSTREAM:
            # A message that a service finds too long would be refused for ever.
            plugin.overflow_mode = OverflowMode.SPLIT
        self._plugin = plugin
        self._apprise = apprise.Apprise(plugin, asset=asset)

    @property
    def name(self) -> str:
        """The kind of service, such as Slack."""
        return str(self._plugin.service_name)

    def send(self, message: Message, ui_url: str) -> bool:
        """Send a message; whether the service took it."""
        limit = min(BODY_LIMIT, max(_SMALLEST_BODY, self._plugin.body_maxlen - _ROOM_FOR_TITLE))
        kind = _TYPES.get(message.worst_level, NotifyType.WARNING)
        try:
            return bool(
                self._apprise.notify(
                    title=message.subject(),
                    body=message.body(ui_url, limit),
                    body_format=NotifyFormat.MARKDOWN,
                    notify_type=kind if message.failing else NotifyType.SUCCESS,
                )
            )
        except Exception:  # its message may hold the URL
            return False
