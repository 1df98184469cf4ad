"""Generate a synthetic company with people, accounts and events at known rates, for demos and tests.

The package contains the rates, the simulation that uses the rates, and the writer for the source
folder. The package shares only the source layout with the asset graph, which does not depend on the
package.
"""

from datetime import date

DEFAULT_USERS = 2_000
DEFAULT_DAYS = 548
DEFAULT_SEED = 7
DEFAULT_END = date(2025, 6, 30)
"""Defaults for `monstera generate`, defined here so that they can be imported without NumPy."""
