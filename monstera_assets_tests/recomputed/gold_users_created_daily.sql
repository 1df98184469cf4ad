SELECT metric_date, segment.dimension AS segment_dimension, segment.value AS segment_value,
    count(DISTINCT user_id) FILTER (WHERE signup_date = metric_date) AS users_created_daily
FROM held LEFT JOIN segments USING (metric_date, segment)
GROUP BY ALL
