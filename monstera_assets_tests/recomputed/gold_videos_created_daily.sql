WITH segments AS (
    SELECT user_id, unnest([
        {'dimension': 'all', 'value': 'all'},
        {'dimension': 'country', 'value': country},
        {'dimension': 'plan_type', 'value': plan_type},
        {'dimension': 'acquisition_source', 'value': acquisition_source},
        {'dimension': 'account_tier', 'value': subscription_tier}
    ]) AS segment
    FROM bronze.bronze_users JOIN bronze.bronze_accounts USING (account_id)
), videos AS (
    SELECT event_id, entity_id AS user_id, event_date
    FROM bronze.bronze_events
    WHERE entity_type = 'user' AND event_type = 'video_created'
)
SELECT metric_date, segment.dimension AS segment_dimension, segment.value AS segment_value,
    count(DISTINCT event_id) AS videos_created_daily
FROM dates CROSS JOIN segments
LEFT JOIN videos ON videos.user_id = segments.user_id AND videos.event_date = metric_date
GROUP BY ALL
