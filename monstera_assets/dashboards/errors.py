"""Dashboard errors."""

from monstera_assets.warehouse.errors import WarehouseError


class SiteError(WarehouseError):
    """The site could not be written. The previous site is unchanged."""
