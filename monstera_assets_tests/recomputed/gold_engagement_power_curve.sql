WITH uses AS (
    SELECT DISTINCT entity_id AS user_id, event_date
    FROM bronze.bronze_events
    WHERE entity_type = 'user' AND is_qualifying_event
), buckets AS (
    SELECT window_days, unnest(range(1, window_days + 1)) AS active_days
    FROM (SELECT unnest([7, 28]) AS window_days)
), active_days_of_users AS (
    SELECT metric_date, window_days, user_id, count(DISTINCT event_date) AS active_days
    FROM dates CROSS JOIN (SELECT DISTINCT window_days FROM buckets)
    JOIN uses ON event_date BETWEEN metric_date - window_days + 1 AND metric_date
    GROUP BY ALL
)
SELECT dates.metric_date, buckets.window_days, buckets.active_days,
    count(DISTINCT user_id) AS users_active_per_window_by_active_days
FROM dates CROSS JOIN buckets
LEFT JOIN active_days_of_users AS u ON u.metric_date = dates.metric_date
    AND u.window_days = buckets.window_days AND u.active_days = buckets.active_days
GROUP BY ALL
