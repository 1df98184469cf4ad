"""Turn identified events into the rows of the source, or say why a row is set aside.

Of rows with one event id, the one that the load would keep stays: the latest `received_at`, else the
last file, else its last row. What stays is set aside if it is the tool's own bookkeeping, if nobody is
known to have done it, or if it happened before its user's day of signup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from monstera_assets.imports.catalog_lookup import Catalog
from monstera_assets.imports.entity_versions import local_day
from monstera_assets.imports.identity import CONTENT_COLUMNS, Import
from monstera_assets.imports.registry import TOOLS

REASONS = (
    *("bookkeeping", "anonymous", "before_signup", "duplicate", "test_mode", "no_account"),
    "no_change",
)
"""Why a readable row is set aside."""

DESCRIBED, MALFORMED, LANDED = "described", "malformed", "landed"


def map_names(connection: duckdb.DuckDBPyConnection, imports: Sequence[Import]) -> None:
    """Create `names`: each import's raw event names with their event types.

    A name is written in lowercase words joined by underscores. Accents are taken off, and other
    characters separate words. One word, or a leading digit, gets `event_`, because an event type has
    two words and begins with a letter. A name without ASCII letters or digits becomes a digest.
    """
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE given_names
        (imp INTEGER, name VARCHAR, event_type VARCHAR, is_chosen BOOLEAN)""")
    rows: list[tuple[int, str, str, bool]] = []
    for each in imports:
        tool = TOOLS.get(each.settings.kind)
        given: Mapping[str, str] = tool.event_types if tool else {}
        rows += [
            (each.number, name, event_type, False)
            for name, event_type in given.items()
            if name not in each.settings.names
        ]
        rows += [(each.number, *pair, True) for pair in each.settings.names.items()]
    if rows:
        connection.executemany("INSERT INTO given_names VALUES (?, ?, ?, ?)", rows)
    connection.execute(r"""
        CREATE OR REPLACE TEMP TABLE names AS
        WITH raw_names AS (
            SELECT DISTINCT imp, name FROM identified WHERE NOT is_malformed),
        spaced AS (
            SELECT imp, name, regexp_replace(regexp_replace(strip_accents(name),
                '([a-z0-9])([A-Z])', '\1_\2', 'g'), '([A-Z]+)([A-Z][a-z])', '\1_\2', 'g') AS words
            FROM raw_names),
        joined AS (
            SELECT imp, name, trim(regexp_replace(lower(words), '[^a-z0-9]+', '_', 'g'), '_') AS words
            FROM spaced)
        SELECT joined.imp, joined.name, coalesce(given.is_chosen, false) AS is_chosen,
            CASE WHEN given.event_type IS NOT NULL THEN given.event_type
                WHEN NOT regexp_matches(words, '[a-z0-9]')
                    THEN 'event_x' || left(md5(joined.name), 8)
                WHEN regexp_full_match(words, '[a-z][a-z0-9]*(_[a-z0-9]+)+') THEN words
                ELSE 'event_' || words END AS event_type
        FROM joined LEFT JOIN given_names AS given
            ON joined.imp = given.imp AND joined.name = given.name""")


def find_duplicates(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `parts` and `losers`.

    Parts are rows that only add properties to an event with their id: `parts` has the rows that found
    their event, and `part_props` the properties. Losers are rows that another one with their event id
    replaces.
    """
    # Ids are compared by their hash first, which takes a fraction of the time and memory.
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE repeated AS
        SELECT events.file_no, events.row, events.kind, raw_events.event_id, events.is_part,
            events.is_provisional, events.received_at
        FROM identified AS events JOIN raw_events USING (file_no, row)
        WHERE NOT events.is_malformed AND events.event_hash IN (
            SELECT event_hash FROM identified WHERE NOT is_malformed
            GROUP BY event_hash HAVING count(*) > 1)""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE parts AS
        SELECT file_no, row, kind, event_id, received_at FROM repeated AS part
        WHERE is_part AND EXISTS (SELECT 1 FROM repeated AS whole WHERE NOT whole.is_part
            AND whole.kind = part.kind AND whole.event_id = part.event_id)""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE part_props AS
        SELECT parts.kind, parts.event_id, raw_events.props
        FROM parts JOIN raw_events USING (file_no, row) WHERE raw_events.props IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY parts.kind, parts.event_id
            ORDER BY parts.received_at DESC NULLS LAST, file_no DESC, row DESC) = 1""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE losers AS
        SELECT file_no, row FROM repeated
        ANTI JOIN parts USING (file_no, row)
        QUALIFY row_number() OVER (PARTITION BY event_id
            ORDER BY is_provisional, received_at DESC NULLS LAST, file_no DESC, row DESC) > 1""")


def classify(connection: duckdb.DuckDBPyConnection, catalog: Catalog, timezone: str) -> None:
    """Create the views `classified`, every raw row with its reason, and `landing`, the rows that land.

    The reason is null for a row that lands. `landing` has the columns of the source's events,
    event_date, file_no and is_deletion.
    """
    connection.execute(f"""
        CREATE OR REPLACE TEMP VIEW classified AS
        SELECT events.*, names.event_type,
            CASE WHEN events.is_malformed THEN '{MALFORMED}'
                WHEN parts.row IS NOT NULL THEN '{DESCRIBED}'
                WHEN losers.row IS NOT NULL THEN 'duplicate'
                WHEN events.is_excluded OR (events.is_bookkeeping AND NOT names.is_chosen)
                    THEN 'bookkeeping'
                WHEN users.uid IS NULL THEN 'anonymous'
                WHEN {local_day("events.ts", timezone)} < users.created_day THEN 'before_signup'
            END AS reason
        FROM identified AS events
        LEFT JOIN names ON events.imp = names.imp AND events.name = names.name
        LEFT JOIN users ON events.uid = users.uid
        LEFT JOIN losers ON events.file_no = losers.file_no AND events.row = losers.row
        LEFT JOIN parts ON events.file_no = parts.file_no AND events.row = parts.row""")
    named = "CASE WHEN nodes.id IS NOT NULL THEN raw.product_id END"
    if not catalog.has_nodes:
        named = "raw.product_id"
    [(only,)] = connection.execute(
        "SELECT CASE WHEN count(*) = 1 THEN min(id) END FROM nodes WHERE tier = 'product'"
    ).fetchall()
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE only_product AS SELECT ?::VARCHAR AS id", [only]
    )
    [(prefixes,)] = connection.execute("SELECT count(*) FROM prefixes").fetchall()
    by_url = """(SELECT list({'prefix': prefix, 'id': product_id}) FROM prefixes)"""
    url = (
        f"list_filter({by_url}, lambda p: starts_with(raw.url, p.prefix))[1].id"
        if prefixes
        else "NULL"
    )
    qualifies, activates = "listed.activates IS NOT NULL", "coalesce(listed.activates, false)"
    if not catalog.has_lists:
        qualifies = activates = "NULL::BOOLEAN"
    connection.execute(f"""
        CREATE OR REPLACE TEMP VIEW landing AS
        WITH kept AS (
            SELECT events.*, raw.event_id, raw.location, raw.session_id, raw.props,
                part.props AS more_props,
                CASE WHEN NOT is_deletion THEN
                    coalesce({named}, types.product_id, {url}, only_product.id) END AS product
            FROM classified AS events CROSS JOIN only_product
            JOIN (SELECT file_no, row, {", ".join(CONTENT_COLUMNS)} FROM raw_events) AS raw
                ON events.file_no = raw.file_no AND events.row = raw.row
            LEFT JOIN nodes ON raw.product_id = nodes.id
            LEFT JOIN type_products AS types ON events.event_type = types.event_type
            LEFT JOIN part_props AS part
                ON events.kind = part.kind AND raw.event_id = part.event_id
            WHERE reason IS NULL)
        SELECT kept.event_id, kept.uid AS entity_id, 'user' AS entity_type,
            CASE WHEN is_deletion THEN 'user_deleted' ELSE kept.event_type END AS event_type,
            kept.ts AS timestamp, coalesce(kept.location, 'api') AS location, kept.session_id,
            kept.product AS product_id,
            CASE WHEN is_deletion THEN false ELSE {qualifies} END AS is_qualifying_event,
            CASE WHEN is_deletion THEN false ELSE {activates} END AS is_activation_event,
            coalesce(kept.props, kept.more_props) AS metadata, kept.received_at,
            {local_day("kept.ts", timezone)} AS event_date, kept.file_no, kept.is_deletion
        FROM kept LEFT JOIN listed_types AS listed
            ON coalesce(kept.product, '') = listed.node_id AND kept.event_type = listed.event_type""")
