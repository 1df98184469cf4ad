"""Check the settings of Spark, which are required if Spark is the engine."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

SCHEMES = ("file", "s3", "abfss")
"""The schemes of a warehouse's URL."""

_REQUIRED = "is required if engine is spark"


def check_remote(value: str | None, *, is_used: bool) -> None:
    """Verify the URL of a Spark Connect server.

    Raises:
        ValueError: If the URL is missing or invalid. The message does not contain the URL, which may
            contain a token.
    """
    if value is None:
        _require(is_used=is_used)
        return
    try:
        url = urlsplit(value)
        is_valid = url.scheme == "sc" and bool(url.hostname) and url.port != 0
    except ValueError:  # the port is not a number
        is_valid = False
    if not is_valid or url.path.split(";")[0].strip("/"):
        raise ValueError("is not the URL of a Spark Connect server, such as sc://host:15002")


def check_warehouse(value: str | None, *, is_used: bool) -> None:
    """Verify the URL of a warehouse's folder.

    Raises:
        ValueError: If the URL is missing or invalid.
    """
    if value is None:
        _require(is_used=is_used)
        return
    url = urlsplit(value)
    if url.scheme not in SCHEMES or not (url.netloc or url.path.strip("/")):
        raise ValueError(
            "is not the URL of a folder. Set it to a URL that starts with"
            f" {', '.join(f'{scheme}://' for scheme in SCHEMES)}, such as file:///data/monstera"
        )
    if url.scheme == "file" and url.netloc:
        raise ValueError(
            "names a host. A local folder has three slashes, as in file:///data/monstera"
        )


def check_catalog(value: Mapping[str, object], *, is_used: bool) -> None:
    """Verify the properties of a pyiceberg catalog.

    Raises:
        ValueError: If there are no properties.
    """
    if not value:
        _require(is_used=is_used)


def _require(*, is_used: bool) -> None:
    if is_used:
        raise ValueError(_REQUIRED)
