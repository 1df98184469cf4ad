WITH uses AS (
    SELECT DISTINCT account_id, event_date
    FROM bronze.bronze_events
    JOIN bronze.bronze_users ON user_id = entity_id
    JOIN bronze.bronze_accounts USING (account_id)
    WHERE entity_type = 'user' AND is_qualifying_event
        AND event_date >= account_created_at::DATE
), segments AS (
    SELECT 'all' AS dimension, 'all' AS value, DATE '0001-01-01' AS held_from
    UNION ALL
    SELECT 'account_tier', subscription_tier, min(valid_from)
    FROM silver.silver_account_state_intervals GROUP BY subscription_tier
    UNION ALL
    SELECT 'account_state', unnest(['trial', 'new_paid', 'active', 'expanding', 'at_risk',
        'contracting', 'churned', 'reactivated', 'frozen']), DATE '0001-01-01'
), accounts_in_use AS (
    SELECT metric_date, uses.account_id, subscription_tier, current_state
    FROM dates JOIN uses ON event_date BETWEEN metric_date - 29 AND metric_date
    LEFT JOIN silver.silver_account_state_history AS history
        ON history.account_id = uses.account_id AND history.snapshot_date = metric_date
)
SELECT dates.metric_date, dimension AS segment_dimension, value AS segment_value,
    count(DISTINCT account_id) AS accounts_active_monthly
FROM dates JOIN segments ON metric_date >= held_from
LEFT JOIN accounts_in_use ON accounts_in_use.metric_date = dates.metric_date
    AND value = CASE dimension
        WHEN 'all' THEN 'all'
        WHEN 'account_tier' THEN subscription_tier
        WHEN 'account_state' THEN current_state
    END
GROUP BY ALL
