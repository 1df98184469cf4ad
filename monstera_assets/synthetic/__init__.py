"""A made-up company as a source: people, accounts and events of known rates, for demos and tests.

Belongs here: the rates, the processes that they drive, and the writing of a source folder. The graph
knows nothing of it, and it knows nothing of the graph but what a source looks like.
"""

from datetime import date

DEFAULT_USERS = 2_000
DEFAULT_DAYS = 548
DEFAULT_SEED = 7
DEFAULT_END = date(2025, 6, 30)
"""The company of `monstera generate` without options; here, so as to be known without NumPy."""
