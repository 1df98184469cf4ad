"""Compute the users and accounts of the source, with their history as versions.

Each attribute is a series of dated facts, of which the last of a day counts. A fact without a date is
the tool's latest state and counts for all days where no dated fact of the same import says otherwise.
The first known value also holds before. Where two imports know a value, the first import's counts.
"""
# Over 400 lines: the attributes of users and accounts follow the same rules.

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from monstera_assets.imports.identity import Import
from monstera_assets.lifecycle.timezone import UTC
from monstera_assets.source.sql import literal

FREE_MAIL = (
    *("gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "msn.com"),
    *("yahoo.com", "ymail.com", "icloud.com", "me.com", "mac.com", "aol.com", "gmx.de", "gmx.net"),
    *("web.de", "t-online.de", "proton.me", "protonmail.com", "pm.me", "mail.com", "zoho.com"),
    *("yandex.ru", "mail.ru", "qq.com", "163.com", "126.com", "fastmail.com", "hey.com"),
    *(
        "hotmail.co.uk",
        "yahoo.co.uk",
        "outlook.de",
        "hotmail.fr",
        "yahoo.fr",
        "orange.fr",
        "free.fr",
    ),
)
"""Domains whose users do not share an account."""

_USER_VALUES = ("account", "email", "country", "source")
_ACCOUNT_VALUES = ("name", "tier", "seats", "first_paid_at", "revenue", "renewal", "is_trial")


def local_day(moment: str, timezone: str) -> str:
    """Return an expression for a UTC timestamp's date in a time zone."""
    if timezone == UTC:
        return f"CAST({moment} AS DATE)"
    return f"CAST(timezone({literal(timezone)}, timezone('UTC', {moment})) AS DATE)"


def find_entities(
    connection: duckdb.DuckDBPyConnection,
    imports: Sequence[Import],
    timezone: str,
    *,
    has_billing: bool,
) -> None:
    """Create the tables `users`, `user_versions`, `account_versions`, `deletions` and `conflicts`.

    users has uid, created_at and created_day; deletions has uid and deleted_at; conflicts has the ids
    of entities for which two imports state different values. The versions have the columns of the
    source's inputs.

    Args:
        connection: a connection with the view `identified`.
        imports: the imports.
        timezone: the time zone that defines days.
        has_billing: whether an import states what accounts pay.
    """
    _collect_facts(connection, timezone)
    _find_users(connection, timezone)
    _user_facts(connection, timezone)
    _account_facts(connection, imports, timezone)
    connection.execute("CREATE OR REPLACE TEMP TABLE conflicts (id VARCHAR, attribute VARCHAR)")
    _find_versions(connection, "account", "found_accounts", "account_facts")
    _find_user_accounts(connection)
    _find_accounts(connection, timezone, has_billing=has_billing)
    _find_user_versions(connection)


def _collect_facts(connection: duckdb.DuckDBPyConnection, timezone: str) -> None:
    """Create small tables of what events say of users and accounts, a row for each day and value."""
    day = local_day("ts", timezone)
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE seen_traits AS
        SELECT uid,
            min({'ts': ts, 'v': seen_country}) FILTER (seen_country IS NOT NULL).v AS country,
            min({'ts': ts, 'v': seen_source}) FILTER (seen_source IS NOT NULL).v AS source
        FROM (SELECT uid, seen_country, seen_source, min(ts) AS ts FROM identified
            WHERE uid IS NOT NULL AND NOT is_malformed AND NOT is_excluded
                AND coalesce(seen_country, seen_source) IS NOT NULL GROUP BY ALL)
        GROUP BY uid""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE event_users AS
        SELECT uid, min(ts) AS first_at, min(ts) FILTER (carries_user) AS carried_at,
            min(created_at) AS declared_at
        FROM identified WHERE uid IS NOT NULL AND NOT is_malformed AND NOT is_excluded
        GROUP BY uid""")
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE event_accounts AS
        SELECT imp, described_account AS account_id, {day} AS day, account_name AS name,
            account_plan AS plan, min(account_created_at) AS declared_at, max(ts) AS ts,
            min(ts) AS first_at
        FROM identified
        WHERE described_account IS NOT NULL AND NOT is_malformed AND NOT is_excluded
        GROUP BY ALL""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE named_accounts AS
        SELECT account_id, min(ts) AS first_at FROM identified
        WHERE account_id IS NOT NULL AND NOT is_malformed AND NOT is_excluded
        GROUP BY account_id""")
    # A profile is an account's if events name its id as account, and no event as user.
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE facts AS
        SELECT facts.* EXCLUDE (user_id, user_id_), facts.user_id AS raw_id,
            coalesce(alias_ends.user_id, facts.user_id_) AS uid,
            facts.is_profile AND named.account_id IS NOT NULL AND users.uid IS NULL AS is_account
        FROM (SELECT facts.*,
                coalesce(tool_map.stated_user, facts.user_id, tool_map.seen_user) AS user_id_
            FROM staged_users AS facts LEFT JOIN tool_map
                ON facts.kind = tool_map.kind AND facts.map_id = tool_map.map_id) AS facts
        LEFT JOIN alias_ends ON facts.user_id_ = alias_ends.alias_id
        LEFT JOIN named_accounts AS named ON facts.user_id = named.account_id
        LEFT JOIN event_users AS users ON facts.user_id = users.uid
        WHERE facts.user_id_ IS NOT NULL""")
    # Most users keep their traits. Then the first event says all, unless a dated fact differs.
    stated = """FROM identified WHERE uid IS NOT NULL AND NOT is_malformed AND NOT is_excluded
        AND coalesce(account_id, email, country, source) IS NOT NULL"""
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE event_traits AS
        WITH every AS (
            SELECT uid, imp, account_id, email, country, source, min(ts) AS ts {stated} GROUP BY ALL),
        changing AS (
            SELECT uid, imp FROM every GROUP BY ALL HAVING count(*) > 1
            UNION
            SELECT uid, imp FROM facts WHERE ts IS NOT NULL)
        SELECT uid, imp, {day} AS day, account_id, email, country, source, ts
        FROM every ANTI JOIN changing USING (uid, imp)
        UNION ALL
        SELECT uid, imp, {day} AS day, account_id, email, country, source, max(ts)
        FROM (SELECT * {stated}) SEMI JOIN changing USING (uid, imp) GROUP BY ALL""")


def _find_users(connection: duckdb.DuckDBPyConnection, timezone: str) -> None:
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE users AS
        WITH stated AS (
            SELECT uid, min(created_at) AS declared_at, min(ts) AS carried_at
            FROM facts WHERE NOT coalesce(is_account, false) GROUP BY uid),
        every AS (SELECT uid FROM stated UNION SELECT uid FROM event_users),
        created AS (
            SELECT uid, coalesce(least(stated.declared_at, events.declared_at),
                least(stated.carried_at, events.carried_at), events.first_at) AS created_at
            FROM every LEFT JOIN stated USING (uid) LEFT JOIN event_users AS events USING (uid))
        SELECT uid, created_at, {local_day("created_at", timezone)} AS created_day
        FROM created WHERE created_at IS NOT NULL""")
    # The tool's latest word on a person counts: a person may come back.
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE deletions AS
        SELECT uid, deleted_at FROM facts SEMI JOIN users USING (uid)
        WHERE ts IS NULL AND NOT coalesce(is_account, false)
        QUALIFY row_number() OVER (PARTITION BY imp, uid
            ORDER BY version DESC NULLS LAST, file_no DESC, row DESC) = 1 AND deleted_at IS NOT NULL""")


def _user_facts(connection: duckdb.DuckDBPyConnection, timezone: str) -> None:
    """Create `user_facts`: id, imp, attribute, day (null: the latest state) and value."""
    day = local_day("ts", timezone)
    columns = {"account": "account_id", "email": "email", "country": "country", "source": "source"}
    dated = [
        f"SELECT uid AS id, imp, '{name}' AS attribute, day, ts, {column} AS value FROM event_traits"
        for name, column in columns.items()
    ]
    dated += [
        f"SELECT uid, imp, '{name}', {day}, ts, {column} FROM facts"
        " WHERE ts IS NOT NULL AND NOT coalesce(is_account, false)"
        for name, column in columns.items()
    ]
    # Of a person's ids, the one that is kept states the traits first.
    latest = """
        SELECT *, (raw_id = uid)::INTEGER AS is_kept FROM facts
        WHERE ts IS NULL AND NOT coalesce(is_account, false)
            AND (deleted_at IS NULL OR version IS NULL)
        QUALIFY row_number() OVER (PARTITION BY imp, uid, raw_id
            ORDER BY version DESC NULLS LAST, file_no DESC, row DESC) = 1"""
    undated = " UNION ALL ".join(
        f"""SELECT uid AS id, imp, '{name}' AS attribute, {column} AS value FROM latest
            WHERE {column} IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY imp, uid
                ORDER BY is_kept DESC, version DESC NULLS LAST, file_no DESC, row DESC) = 1"""
        for name, column in columns.items()
    )
    free = ", ".join(map(literal, FREE_MAIL))
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE user_facts AS
        WITH every AS ({" UNION ALL ".join(dated)}), latest AS ({latest}),
        found AS (
            SELECT id, imp, attribute, day, max({{'ts': ts, 'value': value}}).value AS value
            FROM every WHERE value IS NOT NULL GROUP BY ALL
            UNION ALL
            SELECT id, imp, attribute, NULL, value FROM ({undated})),
        domains AS (
            SELECT id, imp, 'account' AS attribute, day, lower(split_part(value, '@', 2)) AS value
            FROM found SEMI JOIN (SELECT imp FROM options WHERE is_by_domain) USING (imp)
            WHERE attribute = 'email')
        SELECT * FROM found
        UNION ALL
        SELECT * FROM domains WHERE value <> '' AND value NOT IN ({free})""")


def _account_facts(
    connection: duckdb.DuckDBPyConnection, imports: Sequence[Import], timezone: str
) -> None:
    """Create `account_facts`, as `user_facts`, and `found_accounts`: id, created_at and created_day."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE plan_tiers (imp INTEGER, plan VARCHAR, tier VARCHAR)"
    )
    rows = [[i.number, plan, tier] for i in imports for plan, tier in i.settings.tiers.items()]
    if rows:
        connection.executemany("INSERT INTO plan_tiers VALUES (?, ?, ?)", rows)
    day = local_day("ts", timezone)
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE account_rows AS
        SELECT rows.* REPLACE (coalesce(tiers.tier, rows.plan) AS plan) FROM (
            SELECT account_id AS id, imp, day, ts, NULL::BIGINT AS version, 0 AS file_no, 0 AS row,
                name, plan, NULL::VARCHAR AS seats, declared_at AS created_at, first_at,
                NULL::VARCHAR AS first_paid_at, NULL::VARCHAR AS revenue, NULL::VARCHAR AS renewal,
                NULL::VARCHAR AS is_trial
            FROM event_accounts
            UNION ALL
            SELECT account_id, imp, {day}, ts, version, file_no, row, name, plan, seats, created_at,
                ts, first_paid_at::VARCHAR, revenue, renewal, NULL
            FROM staged_accounts WHERE account_id IS NOT NULL
            UNION ALL
            SELECT account_id, imp, {local_day("created_at", timezone)}, created_at, NULL, 0, 0, name,
                'trial', seats::VARCHAR, created_at, created_at, NULL, '0', NULL, 'true'
            FROM billing_accounts
            UNION ALL
            SELECT raw_id, imp, NULL, NULL, version, file_no, row, profile_name, profile_plan, NULL,
                created_at, NULL, NULL, NULL, NULL, NULL
            FROM facts WHERE is_account) AS rows
        LEFT JOIN plan_tiers AS tiers ON rows.imp = tiers.imp AND rows.plan = tiers.plan""")
    columns = {"tier": "plan", **{name: name for name in _ACCOUNT_VALUES if name != "tier"}}
    dated = " UNION ALL ".join(
        f"""SELECT id, imp, '{name}' AS attribute, day, max({{'ts': ts, 'value': {column}}}).value
            AS value FROM account_rows WHERE ts IS NOT NULL AND {column} IS NOT NULL GROUP BY ALL"""
        for name, column in columns.items()
    )
    undated = " UNION ALL ".join(
        f"SELECT id, imp, '{name}', NULL, {column} FROM latest WHERE {column} IS NOT NULL"
        for name, column in columns.items()
    )
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE account_facts AS
        WITH latest AS (SELECT * FROM account_rows WHERE ts IS NULL
            QUALIFY row_number() OVER (PARTITION BY imp, id
                ORDER BY version DESC NULLS LAST, file_no DESC, row DESC) = 1)
        {dated} UNION ALL {undated}""")
    # Facts on users also name accounts. A latest state has no date: then its users' creation counts.
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE found_accounts AS
        WITH named AS (
            SELECT account_id AS id, first_at FROM named_accounts
            UNION ALL
            SELECT account_id, ts FROM facts WHERE account_id IS NOT NULL
            UNION ALL
            SELECT id, first_at FROM account_rows
            UNION ALL
            SELECT value, NULL FROM user_facts WHERE attribute = 'account'),
        members AS (
            SELECT facts.value AS id, min(users.created_at) AS created_at
            FROM user_facts AS facts JOIN users ON facts.id = users.uid
            WHERE facts.attribute = 'account' GROUP BY ALL),
        declared AS (SELECT id, min(created_at) AS created_at FROM account_rows GROUP BY id),
        created AS (
            SELECT id, coalesce(any_value(declared.created_at), min(named.first_at),
                any_value(members.created_at)) AS created_at
            FROM named LEFT JOIN declared USING (id) LEFT JOIN members USING (id) GROUP BY id)
        SELECT id, created_at, {local_day("created_at", timezone)} AS created_day
        FROM created WHERE created_at IS NOT NULL""")


def _find_versions(
    connection: duckdb.DuckDBPyConnection, name: str, entities: str, facts: str, more_days: str = ""
) -> None:
    """Create `<name>_values`: a row for each entity and each day on which it may have changed.

    The columns are id, day, is_dated and a column for each attribute.

    Args:
        connection: a connection with the tables `entities` and `facts`.
        name: user or account.
        entities: a table with id and created_day.
        facts: a table with id, imp, attribute, day and value.
        more_days: a query for more days, with id and day.
    """
    attributes = _USER_VALUES if name == "user" else _ACCOUNT_VALUES
    pivoted = ", ".join(
        f"max(value) FILTER (attribute = '{each}') AS {each}" for each in attributes
    )
    # Most facts repeat the value of the day before.
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE {name}_changes AS
        SELECT * FROM {facts}
        QUALIFY day IS NULL OR value IS DISTINCT FROM lag(value)
            OVER (PARTITION BY id, imp, attribute, day IS NULL ORDER BY day)""")
    facts = f"{name}_changes"
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE {name}_spans AS
        SELECT id, imp, attribute, value,
            CASE WHEN day IS NULL OR lag(day) OVER series IS NULL THEN DATE '-infinity' ELSE day END
                AS from_day,
            coalesce(lead(day) OVER series, DATE 'infinity') AS to_day
        FROM {facts}
        WHERE day IS NOT NULL OR NOT EXISTS (SELECT 1 FROM {facts} AS other
            WHERE other.id = {facts}.id AND other.imp = {facts}.imp
                AND other.attribute = {facts}.attribute AND other.day IS NOT NULL)
        WINDOW series AS (PARTITION BY id, imp, attribute ORDER BY day)""")
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE {name}_states AS
        SELECT id, bool_or(day IS NOT NULL) OR NOT bool_or(day IS NULL) AS is_dated
        FROM {facts} GROUP BY id""")
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE {name}_values AS
        WITH days AS (
            SELECT id, created_day AS day FROM {entities}
            UNION
            SELECT entities.id, facts.day FROM {facts} AS facts
            JOIN {entities} AS entities USING (id) WHERE facts.day > entities.created_day
            {f"UNION {more_days}" if more_days else ""}),
        known AS (
            SELECT days.id, days.day, spans.attribute, arg_min(spans.value, spans.imp) AS value,
                min(spans.value) <> max(spans.value) AS is_disputed
            FROM days JOIN {name}_spans AS spans ON days.id = spans.id
                AND spans.from_day <= days.day AND days.day < spans.to_day
            GROUP BY ALL),
        pivoted AS (SELECT id, day, {pivoted},
            bool_or(is_disputed) AS is_disputed FROM known GROUP BY id, day)
        SELECT days.id, days.day, coalesce(states.is_dated, true) AS is_dated,
            pivoted.* EXCLUDE (id, day)
        FROM days LEFT JOIN pivoted USING (id, day) LEFT JOIN {name}_states AS states USING (id)""")
    connection.execute(
        f"INSERT INTO conflicts SELECT DISTINCT id, '{name}' FROM {name}_values"
        " WHERE is_disputed AND NOT EXISTS (SELECT 1 FROM conflicts AS c WHERE c.id ="
        f" {name}_values.id AND c.attribute = '{name}')"
    )


def _find_user_accounts(connection: duckdb.DuckDBPyConnection) -> None:
    """Compute users' values, on their own days and on days on which their account changed its tier."""
    connection.execute("""
        CREATE OR REPLACE TEMP VIEW created_users AS
        SELECT uid AS id, created_at, created_day FROM users""")
    _find_versions(connection, "user", "created_users", "user_facts")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE tier_days AS
        SELECT id AS account, day, tier,
            row_number() OVER (PARTITION BY id ORDER BY day) = 1 AS is_first FROM account_values
        QUALIFY tier IS DISTINCT FROM lag(tier) OVER (PARTITION BY id ORDER BY day) OR is_first""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE membership_days AS
        SELECT spans.id, tiers.day FROM (
            SELECT id, coalesce(account, id) AS account, day,
                coalesce(lead(day) OVER (PARTITION BY id ORDER BY day), DATE 'infinity') AS to_day
            FROM user_values) AS spans
        JOIN tier_days AS tiers ON spans.account = tiers.account AND NOT tiers.is_first
            AND tiers.day > spans.day AND tiers.day < spans.to_day""")
    [(more,)] = connection.execute("SELECT count(*) FROM membership_days").fetchall()
    if more:
        _find_versions(
            connection, "user", "created_users", "user_facts", "SELECT id, day FROM membership_days"
        )


def _find_accounts(
    connection: duckdb.DuckDBPyConnection, timezone: str, *, has_billing: bool
) -> None:
    """Create `account_versions`, with an account of its own for each user who has none."""
    first_paid = "try_cast(first_paid_at AS TIMESTAMP)" if has_billing else "created_at"
    revenue = "try_cast(revenue AS DECIMAL(18, 2))" if has_billing else "0.00::DECIMAL(18, 2)"
    renewal = local_day("instant(renewal)", timezone)
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE account_versions AS
        WITH rows AS (
            SELECT id, created_at, day, is_dated, coalesce(name, id) AS name, tier, seats,
                first_paid_at, revenue, renewal, is_trial
            FROM account_values JOIN found_accounts USING (id)
            UNION ALL
            SELECT id, created_at, created_day, true, id, NULL, NULL, NULL, NULL, NULL, NULL
            FROM created_users SEMI JOIN (SELECT DISTINCT id FROM user_values WHERE account IS NULL)
                USING (id) ANTI JOIN found_accounts USING (id)),
        changed AS (
            SELECT * FROM rows
            WINDOW history AS (PARTITION BY id ORDER BY day)
            QUALIFY row_number() OVER history = 1 OR {_differs("name", "tier", "seats", "revenue")})
        SELECT id AS account_id, name AS account_name, tier AS subscription_tier,
            try_cast(seats AS BIGINT) AS total_seats, created_at AS account_created_at,
            {first_paid} AS first_paid_at,
            {
        f"CASE WHEN regexp_full_match(renewal, '[0-9-]{{10}}') THEN try_cast(renewal AS DATE)"
        f" ELSE {renewal} END"
        if has_billing
        else "NULL::DATE"
    } AS contract_renewal_date,
            {revenue} AS monthly_recurring_revenue,
            {"try_cast(is_trial AS BOOLEAN)" if has_billing else "false"} AS is_trial,
            CASE WHEN is_dated THEN day END AS valid_from
        FROM changed ORDER BY account_id, valid_from""")


def _find_user_versions(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `user_versions`. The plan is the tier that the user's account had on the version's day."""
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE user_versions AS
        WITH tiers AS (
            SELECT account, tier,
                CASE WHEN lag(day) OVER series IS NULL THEN DATE '-infinity' ELSE day END AS from_day,
                coalesce(lead(day) OVER series, DATE 'infinity') AS to_day
            FROM tier_days WINDOW series AS (PARTITION BY account ORDER BY day)),
        rows AS (
            SELECT users.id, users.created_at, found.day, found.is_dated, found.email,
                coalesce(found.account, users.id) AS account, tiers.tier AS plan,
                coalesce(found.country, seen.country) AS country,
                coalesce(found.source, seen.source) AS source
            FROM user_values AS found JOIN created_users AS users USING (id)
            LEFT JOIN seen_traits AS seen ON users.id = seen.uid
            LEFT JOIN tiers ON coalesce(found.account, users.id) = tiers.account
                AND tiers.from_day <= found.day AND found.day < tiers.to_day),
        changed AS (
            SELECT * FROM rows
            WINDOW history AS (PARTITION BY id ORDER BY day)
            QUALIFY row_number() OVER history = 1
                OR {_differs("email", "account", "plan", "country", "source")})
        SELECT id AS user_id, email, account AS account_id, created_at AS user_created_at, country,
            plan AS plan_type, source AS acquisition_source,
            CASE WHEN is_dated THEN day END AS valid_from
        FROM changed ORDER BY user_id, valid_from""")


def _differs(*columns: str) -> str:
    return " OR ".join(f"{each} IS DISTINCT FROM lag({each}) OVER history" for each in columns)
