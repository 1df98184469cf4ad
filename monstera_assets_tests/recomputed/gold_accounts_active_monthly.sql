WITH uses AS (
    SELECT DISTINCT account_id, event_date
    FROM bronze.bronze_events JOIN bronze.bronze_users ON user_id = entity_id
    WHERE entity_type = 'user' AND is_qualifying_event
), segments AS (
    SELECT unnest([
        {'dimension': 'all', 'value': 'all'},
        {'dimension': 'account_tier', 'value': 'trial'},
        {'dimension': 'account_tier', 'value': 'starter'},
        {'dimension': 'account_tier', 'value': 'professional'},
        {'dimension': 'account_tier', 'value': 'enterprise'},
        {'dimension': 'account_state', 'value': 'trial'},
        {'dimension': 'account_state', 'value': 'new_paid'},
        {'dimension': 'account_state', 'value': 'active'},
        {'dimension': 'account_state', 'value': 'expanding'},
        {'dimension': 'account_state', 'value': 'at_risk'},
        {'dimension': 'account_state', 'value': 'contracting'},
        {'dimension': 'account_state', 'value': 'churned'},
        {'dimension': 'account_state', 'value': 'reactivated'},
        {'dimension': 'account_state', 'value': 'frozen'}
    ]) AS segment
), accounts_in_use AS (
    SELECT metric_date, uses.account_id, subscription_tier, current_state
    FROM dates JOIN uses ON event_date BETWEEN metric_date - 29 AND metric_date
    LEFT JOIN silver.silver_account_state_history AS history
        ON history.account_id = uses.account_id AND history.snapshot_date = metric_date
)
SELECT dates.metric_date, segment.dimension AS segment_dimension, segment.value AS segment_value,
    count(DISTINCT account_id) AS accounts_active_monthly
FROM dates CROSS JOIN segments
LEFT JOIN accounts_in_use ON accounts_in_use.metric_date = dates.metric_date
    AND segment.value = CASE segment.dimension
        WHEN 'all' THEN 'all'
        WHEN 'account_tier' THEN subscription_tier
        WHEN 'account_state' THEN current_state
    END
GROUP BY ALL
