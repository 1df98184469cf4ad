WITH uses AS (
    SELECT DISTINCT entity_id AS user_id, event_date
    FROM bronze.bronze_events
    WHERE entity_type = 'user' AND is_qualifying_event
)
SELECT metric_date, segment.dimension AS segment_dimension, segment.value AS segment_value,
    count(DISTINCT uses.user_id) AS users_active_weekly
FROM held LEFT JOIN segments USING (metric_date, segment)
LEFT JOIN uses ON uses.user_id = segments.user_id
    AND uses.event_date BETWEEN metric_date - 6 AND metric_date
GROUP BY ALL
