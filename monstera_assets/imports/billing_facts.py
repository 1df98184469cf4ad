"""Turn a billing tool's events and objects into billing facts.

A start is the first invoice of a subscription that is paid above 0. Monthly recurring revenue is what
is subscribed, without discounts, taxes, refunds and disputes: price times quantity, by week times
52/12, by day times 365/12, by year divided by 12. Metered prices have no quantity and do not count.

Events are facts where they are archived. Without any, objects are: invoices, charges, proration lines
and the current subscriptions. With an archive, objects only give the starts and the changes of seats
and tier before its first event, and such a start has the renewal date of the last period paid by then.
"""
# Over 400 lines: events and objects give the same facts, by the same rules.

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from monstera_assets.imports.entity_versions import local_day
from monstera_assets.imports.identity import Import
from monstera_assets.source.sql import literal

_PRICE = (
    '{"id": "VARCHAR", "product": "VARCHAR", "unit_amount": "VARCHAR", "amount": "VARCHAR",'
    ' "unit_amount_decimal": "VARCHAR", "currency": "VARCHAR", "interval": "VARCHAR",'
    ' "interval_count": "BIGINT", "usage_type": "VARCHAR", "recurring": {"interval": "VARCHAR",'
    ' "interval_count": "BIGINT", "usage_type": "VARCHAR"}}'
)
_ITEM = f'[{{"id": "VARCHAR", "quantity": "BIGINT", "price": {_PRICE}, "plan": {_PRICE}}}]'
_LINE = (
    '[{"id": "VARCHAR", "amount": "BIGINT", "quantity": "BIGINT", "proration": "BOOLEAN",'
    ' "subscription_item": "VARCHAR", "period": {"start": "VARCHAR", "end": "VARCHAR"},'
    f' "price": {_PRICE}, "plan": {_PRICE},'
    ' "pricing": {"price_details": {"price": "VARCHAR", "product": "VARCHAR"}},'
    ' "parent": {"invoice_item_details": {"proration": "BOOLEAN"},'
    ' "subscription_item_details": {"proration": "BOOLEAN", "subscription_item": "VARCHAR"}}}]'
)
_NO_MINOR_UNIT = (
    *("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF"),
    *("XOF", "XPF"),
)
_THOUSANDTHS = ("BHD", "JOD", "KWD", "OMR", "TND")
_FACT_OBJECTS = ("invoice", "charge", "subscription")


def find_billing(
    connection: duckdb.DuckDBPyConnection,
    imports: Sequence[Import],
    timezone: str,
    tiers: Sequence[str],
) -> None:
    """Create `billing_facts` and the other tables of billing from `staged_billing`.

    billing_facts has the columns of the source's subscription events that are not constant, and
    billing_values, the same facts before their metadata is written. billing_accounts has one row per
    import and account, as it was before its first fact. billing_reasons says of each raw row why it is
    no fact, or null. revenue_movements compares revenue with what Stripe reports.

    Args:
        connection: a connection with the views of `identity.open_relations`.
        imports: the imports.
        timezone: the time zone that defines days.
        tiers: the subscription tiers, from the lowest to the highest.
    """
    _collect(connection, imports, tiers)
    _value_parts(connection)
    _find_payments(connection)
    _find_changes(connection)
    _find_facts(connection, timezone)
    _find_movements(connection, timezone)
    _find_accounts(connection)
    _find_reasons(connection)


def _in(words: Sequence[str]) -> str:
    return f"({', '.join(map(literal, words))})"


def _collect(
    connection: duckdb.DuckDBPyConnection, imports: Sequence[Import], tiers: Sequence[str]
) -> None:
    """Create `billing`, raw rows with their account and why they are left out, and `archives`."""
    connection.execute("CREATE OR REPLACE TEMP TABLE tier_ranks (tier VARCHAR, rank INTEGER)")
    connection.executemany(
        "INSERT INTO tier_ranks VALUES (?, ?)", [[tier, rank] for rank, tier in enumerate(tiers)]
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE price_tiers (imp INTEGER, id VARCHAR, tier VARCHAR)"
    )
    rows = [[i.number, key, tier] for i in imports for key, tier in i.settings.tiers.items()]
    if rows:
        connection.executemany("INSERT INTO price_tiers VALUES (?, ?, ?)", rows)
    # Members of one zip file may have rows of the same number, as events and as objects.
    # The lines of an invoice and the items of a subscription may be rows of their own.
    # Of a customer, the object counts before what events show of it. Of other objects that are in
    # several files, a final state counts before one that may be older.
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE billing AS
        WITH customers AS (
            SELECT imp, object_id AS customer, account_id FROM staged_billing
            WHERE object = 'customer' AND NOT is_malformed AND NOT is_test
            QUALIFY row_number() OVER (PARTITION BY imp, object_id
                ORDER BY event_id IS NULL DESC, ts DESC, file_no DESC, row DESC) = 1),
        parts AS (
            SELECT imp, object, object_id, coalesce(invoice, subscription) AS whole,
                coalesce(lines, items) AS part
            FROM staged_billing
            WHERE object IN ('line_item', 'subscription_item') AND event_id IS NULL
                AND NOT is_malformed AND NOT is_test
            QUALIFY row_number() OVER (PARTITION BY imp, object, object_id
                ORDER BY file_no DESC, row DESC) = 1),
        lists AS (
            SELECT imp AS of_imp, object AS part_object, whole,
                '[' || string_agg(part, ',' ORDER BY object_id) || ']' AS list
            FROM parts GROUP BY ALL)
        SELECT rows.* EXCLUDE (account_id)
                REPLACE (2 * row + (event_id IS NOT NULL)::BIGINT AS row,
                    CASE WHEN rows.object <> 'line_item' THEN coalesce(lines, of_lines.list) END
                        AS lines,
                    CASE WHEN rows.object <> 'subscription_item' THEN coalesce(items, of_items.list)
                        END AS items),
            rows.event_id IS NOT NULL AS is_event,
            coalesce(rows.ts, rows.paid_at, rows.created_at) AS moment,
            coalesce(customers.account_id, rows.account_id) AS account,
            CASE WHEN is_malformed THEN 'malformed'
                WHEN row_number() OVER (PARTITION BY is_malformed,
                        coalesce(event_id, object || '/' || object_id)
                    ORDER BY coalesce(paid_at, ended_at) IS NOT NULL DESC,
                        file_no DESC, row DESC) > 1 THEN 'duplicate'
                WHEN is_test THEN 'test_mode'
                WHEN rows.customer IS NOT NULL
                    AND coalesce(customers.account_id, rows.account_id) IS NULL THEN 'no_account'
            END AS reason
        FROM staged_billing AS rows LEFT JOIN customers USING (imp, customer)
        LEFT JOIN lists AS of_lines ON rows.object = 'invoice' AND rows.event_id IS NULL
            AND of_lines.part_object = 'line_item' AND rows.imp = of_lines.of_imp
            AND rows.object_id = of_lines.whole
        LEFT JOIN lists AS of_items ON rows.object = 'subscription' AND rows.event_id IS NULL
            AND of_items.part_object = 'subscription_item' AND rows.imp = of_items.of_imp
            AND rows.object_id = of_items.whole""")
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE archives AS
        SELECT imp, min(ts) AS since FROM billing
        WHERE is_event AND object IN ('invoice', 'subscription')
            AND (reason IS NULL OR reason = 'no_account')
        GROUP BY imp""")


def _value_parts(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `billing_parts`, items and lines with their tier and monthly revenue, and `row_values`."""
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE raw_parts AS
        SELECT imp, file_no, row, currency, false AS is_line, p.id AS part_id, p.id AS item,
            coalesce(p.price, p.plan) AS unit, NULL::VARCHAR AS price, NULL::VARCHAR AS product,
            p.quantity, NULL::BIGINT AS amount, false AS is_proration, NULL::TIMESTAMP AS start_at,
            NULL::TIMESTAMP AS end_at
        FROM (SELECT imp, file_no, row, currency,
                unnest(from_json(items, {literal(_ITEM)})) AS p
            FROM billing WHERE reason IS NULL)
        UNION ALL
        SELECT imp, file_no, row, currency, true, p.id,
            coalesce(p.parent.subscription_item_details.subscription_item, p.subscription_item,
                p.pricing.price_details.price, p.price.id, p.plan.id),
            coalesce(p.price, p.plan), p.pricing.price_details.price,
            p.pricing.price_details.product, p.quantity, p.amount,
            coalesce(p.parent.subscription_item_details.proration,
                p.parent.invoice_item_details.proration, p.proration, false),
            instant(p.period.start), instant(p.period.end)
        FROM (SELECT imp, file_no, row, currency,
                unnest(from_json(lines, {literal(_LINE)})) AS p
            FROM billing WHERE reason IS NULL)""")
    # A price's amount and interval never change in Stripe, so any copy of it can be used.
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE billing_parts AS
        WITH prices AS (
            SELECT imp, unit.id AS id, unit.product AS product,
                try_cast(coalesce(unit.unit_amount_decimal, unit.unit_amount, unit.amount) AS DOUBLE)
                    AS amount,
                coalesce(unit.recurring.interval, unit.interval) AS interval,
                coalesce(unit.recurring.interval_count, unit.interval_count, 1) AS interval_count,
                coalesce(unit.recurring.usage_type, unit.usage_type, 'licensed') = 'metered'
                    AS is_metered
            FROM raw_parts WHERE unit.id IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY imp, unit.id
                ORDER BY coalesce(unit.unit_amount_decimal, unit.unit_amount, unit.amount)
                        IS NOT NULL DESC,
                    coalesce(unit.recurring.interval, unit.interval) IS NOT NULL DESC,
                    file_no DESC, row DESC, part_id) = 1),
        priced AS (
            SELECT parts.* EXCLUDE (unit, price, product),
                coalesce(parts.unit.id, parts.price) AS price_id,
                coalesce(prices.product, parts.product) AS product_id,
                prices.amount AS unit_amount, prices.interval, prices.interval_count,
                coalesce(prices.is_metered, false) AS is_metered,
                prices.id IS NOT NULL AND prices.interval IS NULL AS is_once,
                {_minor_units("parts.currency")} AS minor_units
            FROM raw_parts AS parts LEFT JOIN prices ON parts.imp = prices.imp
                AND coalesce(parts.unit.id, parts.price) = prices.id)
        SELECT priced.*, coalesce(by_price.tier, by_product.tier, product_id) AS tier,
            CAST(round(unit_amount * quantity / minor_units / interval_count
                * CASE interval WHEN 'day' THEN 365.0 / 12 WHEN 'week' THEN 52.0 / 12
                    WHEN 'month' THEN 1.0 WHEN 'year' THEN 1.0 / 12 END, 2) AS DECIMAL(18, 2))
                AS revenue
        FROM priced
        LEFT JOIN price_tiers AS by_price
            ON priced.imp = by_price.imp AND priced.price_id = by_price.id
        LEFT JOIN price_tiers AS by_product
            ON priced.imp = by_product.imp AND priced.product_id = by_product.id
        WHERE NOT is_metered AND NOT is_once""")
    # What an invoice is for are its lines for whole periods, else its prorations for the new state.
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE row_values AS
        WITH marked AS (
            SELECT *, bool_or(is_line AND NOT is_proration)
                OVER (PARTITION BY file_no, row) AS has_whole FROM billing_parts)
        SELECT file_no, row, {_SUMS}, max(end_at) AS period_end,
            bool_or(is_line AND NOT is_proration) AS has_whole
        FROM marked LEFT JOIN tier_ranks USING (tier)
        WHERE NOT is_line OR (NOT is_proration AND has_whole)
            OR (NOT has_whole AND amount >= 0)
        GROUP BY file_no, row""")


_SUMS = """min({'r': -coalesce(rank, -1), 't': tier}) FILTER (tier IS NOT NULL).t AS tier,
            CAST(sum(quantity) AS BIGINT) AS seats, sum(revenue) AS revenue"""


def _find_payments(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `payments`: paid invoices and failed charges of subscriptions, with what they are."""
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE payments AS
        WITH invoices AS (
            SELECT imp, object_id AS invoice, max(payment_intent) AS payment_intent,
                max(subscription) AS subscription
            FROM billing WHERE object = 'invoice' AND reason IS NULL GROUP BY ALL),
        moments AS (
            SELECT imp, file_no, row, is_event, coalesce(event_id, object_id) AS id, moment,
                true AS is_paid, object_id AS invoice, subscription, account, amount_paid,
                billing_reason, NULL::TIMESTAMP AS next_attempt_at
            FROM billing
            WHERE reason IS NULL AND object = 'invoice'
                AND (event_type IN ('invoice.paid', 'invoice.payment_succeeded')
                    OR (NOT is_event AND status = 'paid' AND paid_at IS NOT NULL))
            QUALIFY row_number() OVER (PARTITION BY imp, is_event, object_id
                ORDER BY event_type, ts, event_id) = 1
            UNION ALL
            SELECT imp, file_no, row, true, event_id, moment, false, object_id, subscription, account,
                NULL, NULL, next_attempt_at
            FROM billing WHERE reason IS NULL AND event_type = 'invoice.payment_failed'
            UNION ALL
            SELECT rows.imp, file_no, row, false, object_id, moment, false, invoices.invoice,
                invoices.subscription, account, NULL, NULL, NULL
            FROM billing AS rows JOIN invoices ON rows.imp = invoices.imp
                AND (rows.invoice = invoices.invoice OR (rows.invoice IS NULL
                    AND rows.payment_intent = invoices.payment_intent))
            WHERE reason IS NULL AND NOT is_event AND object = 'charge' AND status = 'failed'),
        counted AS (
            SELECT moments.*, since FROM moments LEFT JOIN archives USING (imp)
            WHERE subscription IS NOT NULL AND account IS NOT NULL AND moment IS NOT NULL
                AND (is_event OR since IS NULL OR moment < since)),
        marked AS (
            SELECT *,
                min({'moment': moment, 'id': id}) FILTER (is_paid AND amount_paid > 0)
                    OVER (PARTITION BY imp, subscription) AS start,
                min(moment) FILTER (NOT is_paid) OVER (PARTITION BY imp, is_event, invoice) AS failed_at
            FROM counted)
        SELECT * EXCLUDE (start, failed_at), start.moment AS started_at,
            CASE WHEN NOT is_paid THEN 'payment_failed'
                WHEN start.moment = moment AND start.id = id THEN 'subscription_started'
                WHEN start.moment IS NULL OR moment < start.moment THEN NULL
                WHEN failed_at <= moment THEN 'payment_recovered'
                WHEN billing_reason = 'subscription_cycle' THEN 'subscription_renewed' END AS fact
        FROM marked""")


def _find_changes(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `proration_changes`: the seats and tier of a subscription after each change.

    A line shows one item from the start of its period on. What is subscribed at a time is the latest
    line of each item, where a line that is only credited removes its item.
    """
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE proration_changes AS
        WITH lines AS (
            SELECT parts.*, rows.subscription, rows.account, rows.billing_reason
            FROM billing_parts AS parts JOIN billing AS rows USING (file_no, row)
            WHERE parts.is_line AND NOT rows.is_event AND rows.object = 'invoice'
                AND rows.status IS DISTINCT FROM 'void' AND rows.subscription IS NOT NULL
                AND rows.account IS NOT NULL AND parts.start_at IS NOT NULL),
        states AS (
            SELECT imp, subscription, item, start_at, tier, amount,
                CASE WHEN amount < 0 THEN 0 ELSE quantity END AS quantity,
                CASE WHEN amount < 0 THEN 0 ELSE revenue END AS revenue
            FROM lines
            QUALIFY row_number() OVER (PARTITION BY imp, subscription, item, start_at
                ORDER BY amount >= 0 DESC, is_proration, part_id) = 1),
        changes AS (
            SELECT imp, subscription, start_at AS moment, any_value(account) AS account,
                min({{'credit': amount < 0, 'id': part_id, 'file_no': file_no, 'row': row,
                    'currency': currency}}) AS line
            FROM lines WHERE is_proration GROUP BY ALL),
        known AS (
            SELECT changes.imp, changes.subscription, changes.moment, is_after,
                states.* EXCLUDE (imp, subscription)
            FROM changes CROSS JOIN (VALUES (true), (false)) AS sides(is_after)
            JOIN states ON changes.imp = states.imp AND changes.subscription = states.subscription
                AND (states.start_at < changes.moment
                    OR (is_after AND states.start_at = changes.moment))
            QUALIFY row_number() OVER (PARTITION BY changes.imp, changes.subscription, changes.moment,
                is_after, states.item ORDER BY states.start_at DESC) = 1),
        sums AS (
            SELECT imp, subscription, moment, is_after, {_SUMS}
            FROM known LEFT JOIN tier_ranks USING (tier)
            WHERE quantity IS DISTINCT FROM 0 GROUP BY ALL)
        SELECT changes.*, later.tier, later.seats, later.revenue,
            CASE WHEN later.tier IS DISTINCT FROM before.tier THEN 'tier_changed'
                WHEN later.seats IS DISTINCT FROM before.seats THEN 'seats_changed'
                WHEN later.revenue IS DISTINCT FROM before.revenue THEN 'tier_changed' END AS fact,
            CASE WHEN rows.billing_reason = 'subscription_update' AND found.has_whole
                THEN found.period_end END AS period_end
        FROM changes
        JOIN sums AS later ON later.is_after AND changes.imp = later.imp
            AND changes.subscription = later.subscription AND changes.moment = later.moment
        JOIN sums AS before ON NOT before.is_after AND changes.imp = before.imp
            AND changes.subscription = before.subscription AND changes.moment = before.moment
        JOIN billing AS rows ON line.file_no = rows.file_no AND line.row = rows.row
        LEFT JOIN row_values AS found ON line.file_no = found.file_no AND line.row = found.row""")


def _find_facts(connection: duckdb.DuckDBPyConnection, timezone: str) -> None:
    """Create `billing_values` and `billing_facts`."""

    def day(moment: str) -> str:
        return local_day(moment, timezone)

    values = "found.tier, found.seats, found.revenue, rows.currency"
    nothing = "NULL, NULL, NULL, NULL"
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE billing_values AS
        WITH paid AS (
            SELECT payments.imp, payments.file_no, payments.row, payments.is_event, payments.since,
                payments.id AS event_id, payments.account, payments.subscription, fact, payments.moment,
                {values},
                CASE WHEN NOT is_paid THEN NULL
                    WHEN payments.is_event OR payments.since IS NULL THEN found.period_end
                    ELSE max(CASE WHEN is_paid AND NOT payments.is_event THEN found.period_end END)
                        OVER (PARTITION BY payments.imp, payments.subscription) END AS period_end,
                payments.next_attempt_at
            FROM payments JOIN billing AS rows USING (file_no, row)
            LEFT JOIN row_values AS found USING (file_no, row)),
        moved AS (
            SELECT imp, file_no, row, is_event, since, event_id, account, subscription, fact, moment,
                CASE WHEN fact IN ('subscription_started', 'subscription_renewed') THEN tier END
                    AS tier,
                CASE WHEN fact IN ('subscription_started', 'subscription_renewed') THEN seats END
                    AS seats,
                CASE WHEN fact IN ('subscription_started', 'subscription_renewed') THEN revenue END
                    AS revenue, currency, {day("period_end")} AS renewal,
                {day("next_attempt_at")} AS grace, NULL::DATE AS effective, NULL::VARCHAR AS pause
            FROM paid WHERE fact IS NOT NULL),
        starts AS (
            SELECT imp, subscription, min(started_at) AS started_at FROM payments GROUP BY ALL),
        updates AS (
            SELECT rows.*, found.tier, found.seats, found.revenue, starts.started_at
            FROM billing AS rows LEFT JOIN row_values AS found USING (file_no, row)
            LEFT JOIN starts USING (imp, subscription)
            WHERE is_event AND rows.reason IS NULL AND rows.object = 'subscription'
                AND rows.account IS NOT NULL),
        changed AS (
            SELECT imp, file_no, row, true AS is_event, NULL::TIMESTAMP AS since, event_id, account,
                subscription, CASE WHEN is_repriced THEN 'tier_changed' ELSE 'seats_changed' END
                    AS fact, moment, tier, seats, revenue, currency,
                CASE WHEN is_new_period THEN {day("period_end")} END AS renewal,
                NULL::DATE AS grace, NULL::DATE AS effective, NULL::VARCHAR AS pause
            FROM updates WHERE is_changed
            UNION ALL
            SELECT imp, line.file_no, line.row, false, since, line.id, account, subscription, fact,
                moment, tier, seats, revenue, line.currency, {day("period_end")}, NULL, NULL, NULL
            FROM proration_changes LEFT JOIN archives USING (imp)
            WHERE fact IS NOT NULL AND (since IS NULL OR moment < since)),
        announced AS (
            SELECT imp, file_no, row, true, NULL::TIMESTAMP, event_id, account, subscription,
                'subscription_cancelled' AS fact, moment, {nothing}, NULL::DATE, NULL::DATE,
                {day("cancel_at")} AS effective, NULL::VARCHAR
            FROM updates WHERE is_announced),
        -- A subscription that is not to end after all goes on as before, and owes nothing.
        revoked AS (
            SELECT imp, file_no, row, true, NULL::TIMESTAMP, event_id, account, subscription,
                'subscription_renewed' AS fact, moment, tier, seats, revenue, currency,
                {day("period_end")}, NULL::DATE, NULL::DATE, NULL::VARCHAR
            FROM updates WHERE is_revoked AND status = 'active' AND started_at <= moment),
        paused AS (
            SELECT imp, file_no, row, true, NULL::TIMESTAMP, event_id, account, subscription,
                CASE WHEN is_paused THEN 'subscription_paused' ELSE 'subscription_resumed' END, moment,
                {nothing}, NULL::DATE, NULL::DATE, NULL::DATE,
                CASE WHEN is_paused THEN pause_reason END
            FROM updates WHERE is_paused OR is_resumed),
        notices AS (
            SELECT imp, subscription, moment, effective FROM announced
            UNION ALL SELECT imp, subscription, moment, NULL FROM revoked
            UNION ALL SELECT imp, subscription, moment, NULL FROM moved
                WHERE fact IN ('subscription_started', 'subscription_renewed')),
        pending AS (
            SELECT updates.file_no, updates.row,
                max({{'moment': notices.moment, 'is_end': notices.effective IS NOT NULL,
                    'effective': notices.effective}}) AS notice
            FROM updates JOIN notices ON updates.imp = notices.imp
                AND updates.subscription = notices.subscription AND notices.moment <= updates.moment
            WHERE updates.event_type = 'customer.subscription.deleted' GROUP BY ALL),
        -- The deletion of a subscription whose end was announced only carries it out.
        deleted AS (
            SELECT imp, file_no, row, true, NULL::TIMESTAMP, event_id, account, subscription,
                'subscription_cancelled', moment, {nothing}, NULL::DATE, NULL::DATE,
                {day("coalesce(ended_at, moment)")}, NULL::VARCHAR
            FROM updates LEFT JOIN pending USING (file_no, row)
            WHERE event_type = 'customer.subscription.deleted'
                AND (pending.notice.effective IS NULL
                    OR pending.notice.effective > {day("coalesce(ended_at, moment)")})),
        cancelled AS (
            SELECT imp, file_no, row, false, NULL::TIMESTAMP, object_id || '-cancelled', account,
                subscription, 'subscription_cancelled', coalesce(canceled_at, ended_at), {nothing},
                NULL::DATE, NULL::DATE,
                CASE WHEN cancel_at IS NULL OR ended_at < cancel_at THEN {day("ended_at")}
                    ELSE {day("cancel_at")} END,
                NULL::VARCHAR
            FROM billing ANTI JOIN archives USING (imp)
            WHERE NOT is_event AND reason IS NULL AND object = 'subscription'
                AND account IS NOT NULL AND coalesce(canceled_at, ended_at) IS NOT NULL),
        every AS (
            SELECT * FROM moved
            WHERE is_event OR since IS NULL OR fact = 'subscription_started'
            UNION ALL SELECT * FROM changed UNION ALL SELECT * FROM announced
            UNION ALL SELECT * FROM revoked UNION ALL SELECT * FROM paused
            UNION ALL SELECT * FROM deleted UNION ALL SELECT * FROM cancelled)
        -- An update that is several facts gives its id to the first one.
        SELECT * REPLACE (CASE WHEN is_event AND row_number() OVER (PARTITION BY event_id
                ORDER BY fact = 'subscription_cancelled' DESC, fact DESC) > 1
            THEN event_id || '-' || fact ELSE event_id END AS event_id)
        FROM every""")
    fields = {
        "subscription_id": "subscription",
        "subscription_tier": "CASE WHEN fact <> 'seats_changed' THEN tier END",
        "total_seats": "seats",
        "monthly_recurring_revenue": "CAST(revenue AS DOUBLE)",
        "currency": "CASE WHEN revenue IS NOT NULL THEN currency END",
        "contract_renewal_date": "renewal",
        "grace_until": "grace",
        "effective_date": "effective",
        "reason": "pause",
    }
    members = ", ".join(
        f"{literal(json_name)} || to_json({value})::VARCHAR"
        for json_name, value in ((f'"{name}":', value) for name, value in fields.items())
    )
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE billing_facts AS
        SELECT event_id, account AS entity_id, fact AS event_type, moment AS timestamp,
            '{{' || array_to_string(list_filter([{members}], lambda m: m IS NOT NULL), ',') || '}}'
                AS metadata
        FROM billing_values""")


def _find_accounts(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("""
        CREATE OR REPLACE TEMP TABLE billing_accounts AS
        WITH begun AS (
            SELECT imp, account, subscription, found.seats,
                min(coalesce(created_at, ts)) OVER (PARTITION BY imp, subscription) AS created_at
            FROM billing LEFT JOIN row_values AS found USING (file_no, row)
            WHERE reason IS NULL AND subscription IS NOT NULL AND account IS NOT NULL
                AND (object = 'invoice' OR event_type = 'customer.subscription.created')
            QUALIFY row_number() OVER (PARTITION BY imp, subscription
                ORDER BY object = 'invoice', created_at, file_no, row) = 1),
        first_seats AS (
            SELECT imp, account, seats FROM begun
            QUALIFY row_number() OVER (PARTITION BY imp, account
                ORDER BY created_at, subscription) = 1),
        customers AS (
            SELECT imp, account, name, created_at, customer FROM billing
            WHERE object = 'customer' AND account IS NOT NULL AND reason IS NULL
            QUALIFY row_number() OVER (PARTITION BY imp, customer
                ORDER BY is_event, ts DESC, file_no DESC, row DESC) = 1),
        named AS (
            SELECT imp, account, min(created_at) AS created_at,
                arg_min(name, {'moment': created_at, 'id': customer}) AS name
            FROM customers GROUP BY ALL),
        seen AS (
            SELECT imp, account, min(coalesce(created_at, ts)) AS first_at FROM billing
            WHERE reason IS NULL AND account IS NOT NULL GROUP BY ALL)
        SELECT seen.imp, seen.account AS account_id, named.name, first_seats.seats,
            coalesce(named.created_at, seen.first_at) AS created_at
        FROM seen LEFT JOIN named USING (imp, account) LEFT JOIN first_seats USING (imp, account)
        WHERE coalesce(named.created_at, seen.first_at) IS NOT NULL""")


def _find_reasons(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE billing_reasons AS
        SELECT file_no, row,
            CASE WHEN reason = 'malformed' THEN reason
                WHEN facts.row IS NOT NULL THEN NULL
                WHEN NOT is_event AND (since IS NOT NULL OR object NOT IN {_in(_FACT_OBJECTS)})
                    THEN 'described'
                ELSE coalesce(reason, 'no_change') END AS reason,
            event_id, event_type
        FROM billing LEFT JOIN archives USING (imp)
        LEFT JOIN (SELECT DISTINCT file_no, row FROM billing_values) AS facts USING (file_no, row)""")


def _find_movements(connection: duckdb.DuckDBPyConnection, timezone: str) -> None:
    """Create `revenue_movements`: how revenue moved by the facts, and by Stripe's own movements.

    The table has a row for each import, subscription, currency and day on which either moves. The day
    of an end is the last one that is paid, which is the day of Stripe's movement. Imports without
    movements have no rows.
    """
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE revenue_movements AS
        WITH theirs AS (
            SELECT imp, subscription, coalesce(currency, '') AS currency,
                {local_day("ts", timezone)} AS day,
                sum(CAST(round(amount / {_minor_units("currency")}, 2) AS DECIMAL(18, 2))) AS moved
            FROM staged_movements WHERE ts IS NOT NULL AND amount IS NOT NULL GROUP BY ALL),
        changes AS (
            SELECT imp, subscription, currency, {local_day("moment", timezone)} AS day, moment,
                event_id, revenue
            FROM billing_values WHERE revenue IS NOT NULL
            UNION ALL
            SELECT imp, subscription, NULL, effective, effective + INTERVAL 1 DAY, event_id, 0
            FROM billing_values WHERE effective IS NOT NULL AND fact = 'subscription_cancelled'),
        ends_of_days AS (
            SELECT imp, subscription, day, last(revenue ORDER BY moment, event_id) AS revenue,
                last(currency ORDER BY moment, event_id) FILTER (currency IS NOT NULL) AS currency
            FROM changes SEMI JOIN theirs USING (imp) GROUP BY ALL),
        ours AS (
            SELECT imp, subscription,
                coalesce(last_value(currency IGNORE NULLS) OVER history, '') AS currency, day,
                revenue - coalesce(lag(revenue) OVER history, 0) AS moved
            FROM ends_of_days WINDOW history AS (PARTITION BY imp, subscription ORDER BY day))
        SELECT 'import.' || imp AS import, subscription AS subscription_id, currency, day AS date,
            coalesce(ours.moved, 0) AS landed, coalesce(theirs.moved, 0) AS reported
        FROM ours FULL JOIN theirs USING (imp, subscription, currency, day)
        WHERE coalesce(ours.moved, 0) <> 0 OR coalesce(theirs.moved, 0) <> 0""")


def _minor_units(currency: str) -> str:
    return (
        f"CASE WHEN {currency} IN {_in(_NO_MINOR_UNIT)} THEN 1"
        f" WHEN {currency} IN {_in(_THOUSANDTHS)} THEN 1000 ELSE 100 END"
    )


def differing_movements(movements: str) -> str:
    """Return a query for movements of revenue that differ from Stripe's, in an alert's columns.

    Stripe rounds each movement to the currency's minor unit, and revenue is rounded to two decimals.
    Therefore a difference of one unit, or of 0.01 if that is more, is none.

    Args:
        movements: a relation with the columns of `revenue_movements`.
    """
    unit = f"greatest(1.0 / {_minor_units('currency')}, 0.01)"
    return f"""SELECT subscription_id || ' on ' || date || ' (' || currency || ')' AS metric,
            landed::DOUBLE AS observed, reported::DOUBLE AS expected
        FROM {movements} WHERE abs(landed - reported) > {unit}"""


def revenue_differences(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the days on which a subscription's revenue changes differently from Stripe's report."""
    rows = connection.execute(
        f"{differing_movements('revenue_movements')} ORDER BY subscription_id, date, currency"
    ).fetchall()
    return [f"{metric} by {ours:.2f}, not {theirs:.2f}" for metric, ours, theirs in rows]


def free_subscriptions(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the subscriptions that a discount makes free, so that they never start."""
    rows = connection.execute("""
        SELECT payments.subscription FROM payments JOIN billing_parts AS parts USING (file_no, row)
        WHERE payments.is_paid GROUP BY payments.subscription
        HAVING max(payments.amount_paid) = 0 AND max(parts.amount) > 0 ORDER BY 1""").fetchall()
    return [row[0] for row in rows]
