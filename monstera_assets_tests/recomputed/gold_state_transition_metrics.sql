WITH RECURSIVE allowed_moves AS (
    SELECT scope, from_state, unnest(to_states) AS to_state
    FROM (VALUES
        ('platform', 'new', ['active', 'churned', 'deleted', 'dunning', 'dormant']),
        ('platform', 'active', ['returning', 'dormant', 'churned', 'dunning', 'deleted']),
        ('platform', 'returning', ['active', 'dormant', 'churned', 'deleted', 'dunning']),
        ('platform', 'dormant', ['returning', 'churned', 'deleted']),
        ('platform', 'churned', ['reactivated', 'deleted']),
        ('platform', 'reactivated', ['active', 'churned', 'deleted', 'dunning']),
        ('platform', 'dunning', ['active', 'churned', 'deleted', 'dormant']),
        ('product', 'new_to_product',
            ['active_in_product', 'dormant_in_product', 'churned_from_product']),
        ('product', 'active_in_product', ['dormant_in_product', 'churned_from_product']),
        ('product', 'dormant_in_product', ['active_in_product', 'churned_from_product']),
        ('product', 'churned_from_product', ['reactivated_in_product']),
        ('product', 'reactivated_in_product', ['active_in_product']),
        ('account', 'trial', ['new_paid', 'churned', 'frozen']),
        ('account', 'new_paid',
            ['active', 'expanding', 'at_risk', 'churned', 'contracting', 'frozen']),
        ('account', 'active', ['expanding', 'at_risk', 'contracting', 'churned', 'frozen']),
        ('account', 'expanding',
            ['active', 'contracting', 'at_risk', 'new_paid', 'churned', 'frozen']),
        ('account', 'at_risk', ['active', 'contracting', 'churned', 'new_paid', 'expanding',
            'reactivated', 'frozen']),
        ('account', 'contracting',
            ['active', 'expanding', 'at_risk', 'churned', 'new_paid', 'frozen']),
        ('account', 'churned', ['reactivated', 'new_paid', 'frozen']),
        ('account', 'reactivated', ['active', 'at_risk', 'churned', 'expanding', 'contracting',
            'new_paid', 'frozen']),
        ('account', 'frozen', ['active', 'churned', 'new_paid', 'expanding', 'contracting',
            'at_risk', 'reactivated'])
    ) AS published (scope, from_state, to_states)
), states AS (
    SELECT 'platform' AS scope, user_id AS entity_id, user_id, snapshot_date,
        platform_state AS state, platform_state_since AS since
    FROM silver.silver_user_state_history
    UNION ALL
    SELECT 'product', user_id || ' ' || product_id, user_id, snapshot_date, current_state,
        state_since
    FROM silver.silver_user_product_state_history
    UNION ALL
    SELECT 'account', account_id, NULL, snapshot_date, current_state, state_since
    FROM silver.silver_account_state_history
), uses AS (
    SELECT DISTINCT 'platform' AS scope, entity_id, event_date AS used_on
    FROM bronze.bronze_events
    WHERE entity_type = 'user' AND is_qualifying_event
    UNION ALL
    SELECT 'product', user_id || ' ' || product_id, activity_date
    FROM silver.silver_daily_user_activity
    WHERE qualifying_events > 0
), starts AS (
    SELECT 'platform' AS scope, user_id AS entity_id, signup_date AS started_on
    FROM bronze.bronze_users_current
    UNION ALL
    SELECT 'product', user_id || ' ' || product_id, min(activity_date)
    FROM silver.silver_daily_user_activity
    WHERE product_id IN (
        SELECT product_id FROM bronze.bronze_product_catalog WHERE tier = 'product' AND is_active
    )
    GROUP BY user_id, product_id
), deletions AS (
    SELECT entity_id AS user_id, min(event_date) AS deleted_on
    FROM bronze.bronze_subscription_events
    WHERE event_type = 'user_deleted'
    GROUP BY entity_id
), moves AS (
    -- Both days must be in the history, so its first date has no transitions.
    SELECT scope, entity_id, today.snapshot_date AS moved_on,
        yesterday.state AS from_state, today.state AS to_state,
        today.snapshot_date - yesterday.since AS days_in_state
    FROM states AS today JOIN states AS yesterday USING (scope, entity_id)
    WHERE yesterday.snapshot_date = today.snapshot_date - 1 AND yesterday.state <> today.state
), flows AS (
    SELECT metric_date, allowed_moves.scope, allowed_moves.from_state, allowed_moves.to_state,
        count(moves.entity_id) AS moves_made, sum(days_in_state) AS days_in_state
    FROM dates CROSS JOIN allowed_moves
    LEFT JOIN moves ON moved_on = metric_date AND moves.scope = allowed_moves.scope
        AND moves.from_state = allowed_moves.from_state AND moves.to_state = allowed_moves.to_state
    GROUP BY ALL
    UNION ALL
    SELECT metric_date, scopes.scope, 'all', 'all', count(moves.entity_id), sum(days_in_state)
    FROM dates CROSS JOIN (SELECT DISTINCT scope FROM allowed_moves) AS scopes
    LEFT JOIN moves ON moved_on = metric_date AND moves.scope = scopes.scope
    GROUP BY ALL
), used AS (
    SELECT metric_date, scope, entity_id, max(used_on) AS last_use, min(used_on) AS first_use
    FROM dates JOIN uses ON used_on <= metric_date
    GROUP BY ALL
), weeks AS (
    SELECT metric_date, scope,
        replace(replace(week_ago.state, '_in_product', ''), '_from_product', '') AS was,
        replace(replace(today.state, '_in_product', ''), '_from_product', '') AS state,
        coalesce(last_use > metric_date - 7, FALSE) AS came_back,
        coalesce(first_use <= metric_date - 7, FALSE) AS was_used_before
    FROM dates JOIN states AS week_ago ON week_ago.snapshot_date = metric_date - 7
    JOIN states AS today USING (scope, entity_id)
    LEFT JOIN used USING (metric_date, scope, entity_id)
    LEFT JOIN deletions ON deletions.user_id = week_ago.user_id
    WHERE today.snapshot_date = metric_date AND scope <> 'account'
        AND (deleted_on IS NULL OR deleted_on > metric_date)
), people AS (
    SELECT metric_date, scope, was, state, came_back, was_used_before, FALSE AS is_due,
        FALSE AS is_unused
    FROM weeks
    UNION ALL
    SELECT metric_date, scope, NULL, NULL, NULL, NULL, TRUE, last_use IS NULL
    FROM dates JOIN starts ON started_on + 30 BETWEEN metric_date - 6 AND metric_date
    LEFT JOIN used USING (metric_date, scope, entity_id)
), rates AS (
    SELECT metric_date, scopes.scope,
        count(*) FILTER (
            was IN ('active', 'returning', 'reactivated', 'dunning', 'dormant')
        ) AS users_churned_population_weekly,
        count(*) FILTER (
            was IN ('active', 'returning', 'reactivated', 'dunning', 'dormant')
            AND state = 'churned'
        ) AS users_churned_weekly,
        count(*) FILTER (
            was IN ('active', 'returning', 'reactivated', 'dunning')
        ) AS users_dormant_population_weekly,
        count(*) FILTER (
            was IN ('active', 'returning', 'reactivated', 'dunning') AND state = 'dormant'
        ) AS users_dormant_weekly,
        count(*) FILTER (was = 'dormant') AS users_won_back_population_weekly,
        count(*) FILTER (was = 'dormant' AND came_back) AS users_won_back_weekly,
        count(*) FILTER (was = 'churned' AND was_used_before)
            AS users_reactivated_population_weekly,
        count(*) FILTER (was = 'churned' AND was_used_before AND came_back)
            AS users_reactivated_weekly,
        count(*) FILTER (is_due) AS users_never_activated_population_weekly,
        count(*) FILTER (is_due AND is_unused) AS users_never_activated_weekly
    FROM dates CROSS JOIN (VALUES ('platform'), ('product')) AS scopes (scope)
    LEFT JOIN people USING (metric_date, scope)
    GROUP BY ALL
), billing_facts AS (
    SELECT *, entity_id AS account_id, coalesce(list_position([
            'subscription_cancelled', 'subscription_paused', 'payment_failed', 'payment_recovered',
            'subscription_resumed', 'subscription_renewed', 'subscription_started'
        ], event_type), 8) AS kind
    FROM bronze.bronze_subscription_events WHERE entity_type = 'account'
), subscription_facts AS (
    SELECT * EXCLUDE (subscription_id), coalesce(
            subscription_id,
            last_value(CASE WHEN event_type IN ('subscription_started', 'subscription_renewed')
                THEN subscription_id END IGNORE NULLS) OVER so_far,
            first_value(subscription_id IGNORE NULLS) OVER always,
            ''
        ) AS subscription_id,
        coalesce(first_value(subscription_id IGNORE NULLS) OVER always, '') AS first_subscription
    FROM billing_facts
    WINDOW so_far AS (
            PARTITION BY account_id ORDER BY event_timestamp, kind, event_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ), always AS (
            PARTITION BY account_id ORDER BY event_timestamp, kind, event_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        )
), firsts AS (
    SELECT accounts.account_id, first_paid_date, first_paid_at, accounts.contract_renewal_date,
        coalesce(any_value(first_subscription), '') AS subscription_id
    FROM bronze.bronze_accounts AS accounts
    LEFT JOIN subscription_facts ON subscription_facts.account_id = accounts.account_id
    GROUP BY ALL
), billing_steps AS (
    SELECT account_id, subscription_id, step_type, step_date, contract_renewal_date, effective_date,
        -- At equal times, the first payment comes first, and the end of the day last.
        row_number() OVER (
            PARTITION BY account_id, subscription_id
            ORDER BY step_date, step_type = 'end_of_day', step_timestamp, kind, event_id
        ) AS step,
        row_number() OVER (
            PARTITION BY account_id
            ORDER BY step_date, step_type = 'end_of_day', step_timestamp, kind, event_id
        ) AS place
    FROM (
        SELECT account_id, subscription_id, event_type AS step_type, event_date AS step_date,
            event_timestamp AS step_timestamp, kind, event_id, contract_renewal_date, effective_date
        FROM subscription_facts
        UNION ALL
        SELECT account_id, subscription_id, 'first_payment', first_paid_date, first_paid_at, 0, NULL,
            NULL, NULL
        FROM firsts WHERE first_paid_at IS NOT NULL
        UNION ALL
        SELECT account_id, subscription_facts.subscription_id, 'end_of_day',
            unnest(generate_series(
                least(min(event_date), min(first_paid_date)),
                (SELECT max(metric_date) FROM dates), INTERVAL 1 DAY
            ))::DATE,
            NULL, NULL, NULL, NULL, NULL
        FROM subscription_facts JOIN firsts USING (account_id)
        GROUP BY account_id, subscription_facts.subscription_id
    )
), billing AS (
    SELECT account_id, subscriptions.subscription_id, 0::BIGINT AS step, 0::BIGINT AS place,
        'never_paid' AS contract,
        CASE WHEN subscriptions.subscription_id = firsts.subscription_id THEN contract_renewal_date END
            AS renewal_date,
        NULL::DATE AS cancelled_for, FALSE AS is_paused, NULL::DATE AS pause_ended_on,
        0 AS open_failures, NULL::DATE AS failing_since,
        NULL::VARCHAR AS closed_by, NULL::DATE AS closed_on, 0 AS failures_closed
    FROM (SELECT DISTINCT account_id, subscription_id FROM billing_steps) AS subscriptions
    JOIN firsts USING (account_id)
    UNION ALL
    SELECT account_id, subscription_id, step, place, next_contract,
        CASE
            WHEN is_payment THEN contract_renewal_date
            WHEN contract = 'lapsed' AND next_contract = 'lapsed' THEN renewal_date
            WHEN is_recovery AND contract_renewal_date IS NULL AND renewal_date <= step_date
                THEN NULL
            ELSE coalesce(contract_renewal_date, renewal_date)
        END,
        CASE
            WHEN is_payment THEN NULL
            WHEN step_type = 'subscription_cancelled' AND contract = 'paid'
                THEN coalesce(effective_date, step_date)
            ELSE cancelled_for
        END,
        CASE
            WHEN step_type IN ('subscription_started', 'subscription_resumed')
                OR next_contract <> 'paid' THEN FALSE
            WHEN step_type = 'subscription_paused' AND contract = 'paid' THEN TRUE
            ELSE is_paused
        END,
        CASE
            WHEN is_paused AND step_type IN ('subscription_started', 'subscription_resumed')
                THEN step_date
            ELSE pause_ended_on
        END,
        CASE
            WHEN closes_failures THEN 0
            WHEN step_type = 'payment_failed' AND contract = 'paid' THEN open_failures + 1
            ELSE open_failures
        END,
        CASE
            WHEN closes_failures THEN NULL
            WHEN step_type = 'payment_failed' AND contract = 'paid'
                THEN coalesce(failing_since, step_date)
            ELSE failing_since
        END,
        CASE WHEN closes_failures THEN step_type END,
        -- The last day is still paid: the lapse is on the day after.
        CASE WHEN closes_failures THEN step_date + (step_type = 'end_of_day')::INTEGER END,
        CASE WHEN closes_failures THEN open_failures ELSE 0 END
    FROM (
        SELECT billing.account_id, billing.subscription_id, billing_steps.step, billing_steps.place,
            contract, renewal_date, cancelled_for, is_paused, pause_ended_on, open_failures,
            failing_since, step_type, step_date, contract_renewal_date, effective_date,
            step_type IN ('subscription_started', 'subscription_renewed') AS is_payment,
            step_type = 'payment_recovered' AND (
                contract = 'paid'
                OR contract = 'lapsed' AND NOT coalesce(cancelled_for < step_date, FALSE)
            ) AS is_recovery,
            CASE
                WHEN is_payment OR is_recovery THEN 'paid'
                WHEN step_type = 'first_payment' AND contract = 'never_paid' THEN 'paid'
                WHEN step_type = 'end_of_day' AND contract = 'paid' AND (
                    coalesce(cancelled_for <= step_date, FALSE)
                    OR coalesce(
                        greatest(renewal_date, pause_ended_on) + 3 <= step_date, FALSE
                    ) AND renewal_date IS NOT NULL AND open_failures = 0 AND NOT is_paused
                    OR coalesce(failing_since + 30 <= step_date, FALSE)
                ) THEN 'lapsed'
                ELSE contract
            END AS next_contract,
            is_payment OR is_recovery
                OR contract = 'paid' AND next_contract = 'lapsed' AS closes_failures
        FROM billing JOIN billing_steps ON billing_steps.account_id = billing.account_id
            AND billing_steps.subscription_id = billing.subscription_id
            AND billing_steps.step = billing.step + 1
    )
), closings AS (
    SELECT metric_date, account_id, arg_max(closed_by, (closed_on, closed_by <> 'end_of_day', place)) AS last_closed_by
    FROM dates JOIN billing
        ON failures_closed > 0 AND closed_on BETWEEN metric_date - 29 AND metric_date
    GROUP BY ALL
), recoveries AS (
    SELECT metric_date, 'account' AS scope,
        count(account_id) AS accounts_dunning_recovered_population_monthly,
        count(account_id) FILTER (last_closed_by <> 'end_of_day')
            AS accounts_dunning_recovered_monthly
    FROM dates LEFT JOIN closings USING (metric_date)
    GROUP BY metric_date
), totals AS (
    SELECT *, 'all' AS to_state,
        users_churned_weekly::DOUBLE / nullif(users_churned_population_weekly::DOUBLE, 0)
            AS users_churned_share_weekly,
        users_dormant_weekly::DOUBLE / nullif(users_dormant_population_weekly::DOUBLE, 0)
            AS users_dormant_share_weekly,
        users_won_back_weekly::DOUBLE / nullif(users_won_back_population_weekly::DOUBLE, 0)
            AS users_won_back_share_weekly,
        users_reactivated_weekly::DOUBLE / nullif(users_reactivated_population_weekly::DOUBLE, 0)
            AS users_reactivated_share_weekly,
        users_never_activated_weekly::DOUBLE
            / nullif(users_never_activated_population_weekly::DOUBLE, 0)
            AS users_never_activated_share_weekly,
        accounts_dunning_recovered_monthly::DOUBLE
            / nullif(accounts_dunning_recovered_population_monthly::DOUBLE, 0)
            AS accounts_dunning_recovered_share_monthly
    FROM rates FULL JOIN recoveries USING (metric_date, scope)
)
SELECT moves_made AS moves_made_daily,
    days_in_state::DOUBLE / nullif(moves_made::DOUBLE, 0) AS moves_days_in_state_mean_daily,
    from_state, * EXCLUDE (moves_made, days_in_state, from_state)
FROM flows LEFT JOIN totals USING (metric_date, scope, to_state)
