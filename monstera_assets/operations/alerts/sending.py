"""Send messages through Apprise, which supports URLs for email, Slack and many other services.

Errors from Apprise and its HTTP library may contain a URL, so they are neither logged nor raised.
"""

from __future__ import annotations

import logging
from contextlib import suppress

import apprise
from apprise import NotifyFormat, NotifyType, OverflowMode
from apprise.plugins.base import NotifyBase
from pydantic import SecretStr

from monstera_assets.operations.alerts.message import BODY_LIMIT, Message

# These loggers write hosts, paths with tokens and responses. To debug a URL, use Apprise's own
# command line.
for _name in ("apprise", "urllib3", "requests"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)

_SMALLEST_BODY = 500
_ROOM_FOR_TITLE = 200
_TYPES = {"P0": NotifyType.FAILURE, "P1": NotifyType.FAILURE}


class Service:
    """The service at an Apprise URL."""

    def __init__(self, url: SecretStr) -> None:
        """Parse the URL without connecting.

        Raises:
            ValueError: If Apprise does not support the URL, or part of the URL is missing.
        """
        asset = apprise.AppriseAsset(
            app_id="Monstera", app_desc="Monstera", async_mode=False, secure_logging=True
        )
        plugin = None
        with suppress(Exception):  # the error message may contain the URL
            plugin = apprise.Apprise.instantiate(url.get_secret_value(), asset=asset)
        if not isinstance(plugin, NotifyBase):
            raise ValueError(
                "is not a URL supported by Apprise. Run `apprise --details` to list the services."
            )
        if plugin.overflow_mode == OverflowMode.UPSTREAM:
            # Otherwise, the service would refuse an overlong message on every attempt.
            plugin.overflow_mode = OverflowMode.SPLIT
        self._plugin = plugin
        self._apprise = apprise.Apprise(plugin, asset=asset)

    @property
    def name(self) -> str:
        """The service's name, such as Slack."""
        return str(self._plugin.service_name)

    def send(self, message: Message) -> bool:
        """Send a message and return whether the service accepted it."""
        limit = min(BODY_LIMIT, max(_SMALLEST_BODY, self._plugin.body_maxlen - _ROOM_FOR_TITLE))
        kind = _TYPES.get(message.worst_level, NotifyType.WARNING)
        with suppress(Exception):  # the error message may contain the URL
            return bool(
                self._apprise.notify(
                    title=message.subject(),
                    body=message.body(limit),
                    body_format=NotifyFormat.MARKDOWN,
                    notify_type=kind if message.failing else NotifyType.SUCCESS,
                )
            )
        return False
