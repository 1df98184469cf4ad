WITH user_versions AS (
    -- An entity's first version also applies to earlier days.
    SELECT *, CASE WHEN valid_from > min(valid_from) OVER (PARTITION BY user_id)
        THEN valid_from ELSE DATE '0001-01-01' END AS from_day
    FROM bronze.bronze_users
), account_versions AS (
    SELECT *, CASE WHEN valid_from > min(valid_from) OVER (PARTITION BY account_id)
        THEN valid_from ELSE DATE '0001-01-01' END AS from_day
    FROM bronze.bronze_accounts
), people AS (
    -- Each user on each date since signup, with the versions of the date.
    SELECT metric_date, user_id, users.account_id, signup_date, country, plan_type,
        acquisition_source,
        CASE WHEN created_date > metric_date THEN 'unknown' ELSE subscription_tier END AS tier
    FROM dates
    JOIN user_versions AS users ON users.from_day <= metric_date AND signup_date <= metric_date
    JOIN account_versions AS accounts
        ON accounts.account_id = users.account_id AND accounts.from_day <= metric_date
    QUALIFY row_number() OVER (
        PARTITION BY metric_date, user_id ORDER BY users.from_day DESC, accounts.from_day DESC
    ) = 1
), segments AS (
    SELECT metric_date, user_id, account_id, signup_date, unnest([
        {'dimension': 'all', 'value': 'all'},
        {'dimension': 'country', 'value': country},
        {'dimension': 'plan_type', 'value': plan_type},
        {'dimension': 'acquisition_source', 'value': acquisition_source},
        {'dimension': 'account_tier', 'value': tier}
    ]) AS segment
    FROM people
), held AS (
    SELECT dates.metric_date, segment
    FROM dates JOIN (
        SELECT segment, min(metric_date) AS held_from FROM segments GROUP BY segment
    ) AS first ON held_from <= dates.metric_date OR segment.dimension = 'all'
), uses AS (
    SELECT DISTINCT entity_id AS user_id, event_date
    FROM bronze.bronze_events
    WHERE entity_type = 'user' AND is_qualifying_event
)
SELECT metric_date, segment.dimension AS segment_dimension, segment.value AS segment_value,
    count(DISTINCT uses.user_id) AS users_active_daily
FROM held LEFT JOIN segments USING (metric_date, segment)
LEFT JOIN uses ON uses.user_id = segments.user_id
    AND uses.event_date BETWEEN metric_date - 0 AND metric_date
GROUP BY ALL
