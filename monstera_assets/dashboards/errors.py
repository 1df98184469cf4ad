"""Errors of the dashboards."""

from monstera_assets.warehouse.errors import WarehouseError


class SiteError(WarehouseError):
    """The site could not be written; the previous site is unchanged."""
