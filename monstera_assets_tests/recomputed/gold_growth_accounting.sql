WITH uses AS (
    SELECT DISTINCT entity_id AS user_id, event_date
    FROM bronze.bronze_events
    WHERE entity_type = 'user' AND is_qualifying_event
), windows AS (
    SELECT unnest([1, 7, 30]) AS window_days
), activity AS (
    SELECT metric_date, window_days, user_id,
        count(*) FILTER (
            WHERE event_date BETWEEN metric_date - window_days + 1 AND metric_date
        ) > 0 AS in_s,
        count(*) FILTER (
            WHERE event_date BETWEEN metric_date - 2 * window_days + 1 AND metric_date - window_days
        ) > 0 AS in_p,
        count(*) FILTER (WHERE event_date < metric_date - 2 * window_days + 1) > 0 AS before_p
    FROM dates CROSS JOIN windows CROSS JOIN uses
    GROUP BY ALL
), counts AS (
    SELECT dates.metric_date, windows.window_days,
        count(DISTINCT user_id) FILTER (WHERE in_s) AS users_active_per_window,
        count(DISTINCT user_id) FILTER (WHERE in_p) AS users_active_before_per_window,
        count(DISTINCT user_id) FILTER (WHERE in_s AND NOT in_p AND NOT before_p)
            AS users_new_per_window,
        count(DISTINCT user_id) FILTER (WHERE in_s AND in_p) AS users_retained_per_window,
        count(DISTINCT user_id) FILTER (WHERE in_s AND NOT in_p AND before_p)
            AS users_resurrected_per_window,
        count(DISTINCT user_id) FILTER (WHERE in_p AND NOT in_s) AS users_churned_per_window
    FROM dates CROSS JOIN windows
    LEFT JOIN activity ON activity.metric_date = dates.metric_date
        AND activity.window_days = windows.window_days
    GROUP BY ALL
)
SELECT *, (users_new_per_window + users_resurrected_per_window)::DOUBLE
        / nullif(users_churned_per_window::DOUBLE, 0) AS users_quick_ratio_per_window
FROM counts
