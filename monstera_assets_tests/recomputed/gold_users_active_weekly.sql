WITH segments AS (
    SELECT user_id, unnest([
        {'dimension': 'all', 'value': 'all'},
        {'dimension': 'country', 'value': country},
        {'dimension': 'plan_type', 'value': plan_type},
        {'dimension': 'acquisition_source', 'value': acquisition_source},
        {'dimension': 'account_tier', 'value': subscription_tier}
    ]) AS segment
    FROM bronze.bronze_users JOIN bronze.bronze_accounts USING (account_id)
), uses AS (
    SELECT DISTINCT entity_id AS user_id, event_date
    FROM bronze.bronze_events
    WHERE entity_type = 'user' AND is_qualifying_event
)
SELECT metric_date, segment.dimension AS segment_dimension, segment.value AS segment_value,
    count(DISTINCT uses.user_id) AS users_active_weekly
FROM dates CROSS JOIN segments
LEFT JOIN uses ON uses.user_id = segments.user_id
    AND uses.event_date BETWEEN metric_date - 6 AND metric_date
GROUP BY ALL
