WITH segments AS (
    SELECT user_id, signup_date, unnest([
        {'dimension': 'all', 'value': 'all'},
        {'dimension': 'country', 'value': country},
        {'dimension': 'plan_type', 'value': plan_type},
        {'dimension': 'acquisition_source', 'value': acquisition_source},
        {'dimension': 'account_tier', 'value': subscription_tier}
    ]) AS segment
    FROM bronze.bronze_users JOIN bronze.bronze_accounts USING (account_id)
)
SELECT metric_date, segment.dimension AS segment_dimension, segment.value AS segment_value,
    count(DISTINCT user_id) FILTER (WHERE signup_date = metric_date) AS users_created_daily
FROM dates CROSS JOIN segments
GROUP BY ALL
