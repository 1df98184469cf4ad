"""Errors of the dashboards."""

from monstera_assets.warehouse.errors import WarehouseError


class SiteError(WarehouseError):
    """The site cannot be written; the previous one is unchanged."""
