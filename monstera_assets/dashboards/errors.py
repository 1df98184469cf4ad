"""What can go wrong with the site."""

from monstera_assets.warehouse.errors import WarehouseError


class SiteError(WarehouseError):
    """The site could not be written; the one before it is as it was."""
