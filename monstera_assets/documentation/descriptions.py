"""Complete the descriptions of assets in the Dagster UI with their page and their SQL."""

from __future__ import annotations

from collections.abc import Callable, Collection

from dagster import AssetSpec

from monstera_assets.markdown import code

_DICTIONARY = "generated/data_dictionary"
_PAGES = {
    "exports": "how-to/importing",
    "imports": "how-to/importing",
    "dashboards": "how-to/dashboards",
    "published": "how-to/bi_tools",
}
"""The page about each asset that is not a table, by the first part of the asset's key."""


def with_links(site: str | None, queries: Collection[str]) -> Callable[[AssetSpec], AssetSpec]:
    """Return a function that appends an asset's page and SQL command to its description.

    Args:
        site: the address of the documentation site. Without it, pages are named, not linked.
        queries: the names of the tables that have a query.
    """

    def complete(spec: AssetSpec) -> AssetSpec:
        first, name = spec.key.path[0], spec.key.path[-1]
        page, anchor = (_PAGES[first], "") if first in _PAGES else (_DICTIONARY, f"#{name}")
        source = f"docs/{page}.md{anchor}"
        lines = [
            spec.description,
            f"Page: [{source}]({site.rstrip('/')}/{page}.html{anchor})"
            if site
            else f"Page: {code(source)}",
        ]
        if name in queries:
            lines.append(f"SQL: {code(f'monstera sql {name}')}")
        return spec.replace_attributes(description="\n\n".join(filter(None, lines)))

    return complete
