WITH videos AS (
    SELECT event_id, entity_id AS user_id, event_date
    FROM bronze.bronze_events
    WHERE entity_type = 'user' AND event_type = 'video_created'
)
SELECT metric_date, segment.dimension AS segment_dimension, segment.value AS segment_value,
    count(DISTINCT event_id) AS videos_created_daily
FROM held LEFT JOIN segments USING (metric_date, segment)
LEFT JOIN videos ON videos.user_id = segments.user_id AND videos.event_date = metric_date
GROUP BY ALL
