WITH days AS (
    -- One row per day and segment member, with the state at the end of the day.
    SELECT 'platform' AS scope, segment.dimension AS segment_dimension,
        segment.value AS segment_value, user_id AS member_id, account_id, snapshot_date,
        platform_state AS state, snapshot_date = signup_date AS begins
    FROM silver.silver_user_state_history AS history
    JOIN segments USING (user_id)
    WHERE metric_date = snapshot_date
    UNION ALL
    SELECT 'product', 'product', product_id, user_id || ' ' || product_id, people.account_id,
        snapshot_date, current_state, snapshot_date = first_access_date
    FROM silver.silver_user_product_state_history JOIN people USING (user_id)
    WHERE metric_date = snapshot_date
    UNION ALL
    SELECT 'account', 'all', 'all', account_id, account_id, snapshot_date, current_state,
        snapshot_date = created_date
    FROM silver.silver_account_state_history
    JOIN (SELECT DISTINCT account_id, created_date FROM bronze.bronze_accounts) USING (account_id)
), moves AS (
    SELECT today.*, yesterday.state AS from_state
    FROM days AS today JOIN days AS yesterday
        ON yesterday.scope = today.scope
        AND yesterday.segment_dimension = today.segment_dimension
        AND yesterday.member_id = today.member_id
        AND yesterday.snapshot_date = today.snapshot_date - 1
    WHERE yesterday.state <> today.state
), changes AS (
    SELECT scope, segment_dimension, segment_value, state, snapshot_date, account_id, 1 AS change
    FROM moves
    UNION ALL
    SELECT scope, segment_dimension, segment_value, from_state, snapshot_date, account_id, -1
    FROM moves
), by_account AS (
    SELECT scope, segment_dimension, segment_value, state, snapshot_date, account_id,
        sum(change) ^ 2 AS squared
    FROM changes
    GROUP BY ALL
), grid AS (
    SELECT metric_date, scope, segment_dimension, segment_value, unnest(states) AS state
    FROM (
        SELECT metric_date, 'platform' AS scope, segment.dimension AS segment_dimension,
            segment.value AS segment_value, ['new', 'active', 'returning', 'dormant', 'churned',
            'reactivated', 'dunning', 'deleted'] AS states
        FROM held
        UNION ALL
        SELECT metric_date, 'product', 'product', product_id, ['new_to_product', 'active_in_product',
            'dormant_in_product', 'churned_from_product', 'reactivated_in_product']
        FROM dates JOIN (
            SELECT product_id, least(created_date, min(first_access_date)) AS used_from
            FROM bronze.bronze_product_catalog
            LEFT JOIN silver.silver_user_product_state_history USING (product_id)
            WHERE tier = 'product' AND is_active GROUP BY product_id, created_date
        ) ON metric_date >= used_from
        UNION ALL
        SELECT metric_date, 'account', 'all', 'all', ['trial', 'new_paid', 'active', 'expanding', 'at_risk',
            'contracting', 'churned', 'reactivated', 'frozen']
        FROM dates
    )
)
SELECT metric_date, scope, segment_dimension, segment_value, state,
    coalesce(members, 0) AS members_in_state_daily,
    coalesce(members, 0)::DOUBLE / everybody AS members_in_state_share_daily,
    coalesce(reached, 0) + coalesce(began, 0) AS members_reached_state_daily,
    coalesce(departed, 0) AS members_left_state_daily,
    coalesce(together, 0) AS members_moved_together_daily
FROM grid
LEFT JOIN (
    SELECT snapshot_date AS metric_date, scope, segment_dimension, segment_value, state,
        count(*) AS members, count(*) FILTER (begins) AS began
    FROM days GROUP BY ALL
) USING (metric_date, scope, segment_dimension, segment_value, state)
LEFT JOIN (
    SELECT snapshot_date AS metric_date, scope, segment_dimension, segment_value,
        count(*) AS everybody
    FROM days GROUP BY ALL
) USING (metric_date, scope, segment_dimension, segment_value)
LEFT JOIN (
    SELECT snapshot_date AS metric_date, scope, segment_dimension, segment_value, state,
        count(*) FILTER (change = 1) AS reached, count(*) FILTER (change = -1) AS departed
    FROM changes GROUP BY ALL
) USING (metric_date, scope, segment_dimension, segment_value, state)
LEFT JOIN (
    SELECT snapshot_date AS metric_date, scope, segment_dimension, segment_value, state,
        sum(squared) AS together
    FROM by_account GROUP BY ALL
) USING (metric_date, scope, segment_dimension, segment_value, state)
