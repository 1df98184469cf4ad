"""Measurements: each beside a reference of the same run. Nothing here is part of the package."""
