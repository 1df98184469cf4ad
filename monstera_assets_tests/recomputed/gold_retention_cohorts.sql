WITH as_of AS (
    SELECT max(metric_date) AS as_of_date FROM dates
), range_from AS (
    SELECT min(event_date) AS range_from FROM (
        SELECT event_date FROM bronze.bronze_events
        UNION ALL SELECT event_date FROM bronze.bronze_subscription_events
    )
), signups AS (
    -- Each user with the version of the signup day.
    SELECT user_id, signup_date, unnest([
        {'dimension': 'all', 'value': 'all'},
        {'dimension': 'country', 'value': country},
        {'dimension': 'plan_type', 'value': plan_type},
        {'dimension': 'acquisition_source', 'value': acquisition_source}
    ]) AS segment
    FROM user_versions, range_from
    WHERE from_day <= signup_date AND signup_date >= range_from
    QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY from_day DESC) = 1
), cohort_members AS (
    SELECT cohort.type AS cohort_type, cohort.start AS cohort_start, cohort.period_days AS period_days,
        segment.dimension AS segment_dimension, segment.value AS segment_value, user_id, signup_date
    FROM (
        SELECT user_id, signup_date, segment, unnest([
            {
                'type': 'month',
                'start': date_trunc('month', signup_date)::DATE,
                'period_days': 30
            },
            {
                'type': 'week',
                'start': signup_date - (isodow(signup_date) - 1)::INTEGER,
                'period_days': 7
            }
        ]) AS cohort
        FROM signups
    ), as_of
    WHERE signup_date <= as_of_date
), periods AS (
    -- Each period that the first member of a segment's cohort has entered has a row.
    SELECT cohort_type, cohort_start, segment_dimension, segment_value, period_days, period_number,
        as_of_date,
        max(signup_date) + ((period_number + 1) * period_days - 1)::INTEGER <= as_of_date AS is_mature
    FROM cohort_members CROSS JOIN as_of
    CROSS JOIN (
        SELECT unnest(range(longest_age + 1)) AS period_number
        FROM (SELECT max(as_of_date - signup_date) AS longest_age FROM cohort_members, as_of)
    )
    GROUP BY cohort_type, cohort_start, segment_dimension, segment_value, period_days, period_number,
        as_of_date
    HAVING min(signup_date) + (period_number * period_days)::INTEGER <= as_of_date
), member_periods AS (
    SELECT periods.*, user_id,
        signup_date + (period_number * period_days)::INTEGER AS first_day,
        signup_date + ((period_number + 1) * period_days - 1)::INTEGER AS last_day
    FROM periods JOIN cohort_members
        USING (cohort_type, cohort_start, segment_dimension, segment_value, period_days)
), uses AS (
    SELECT DISTINCT entity_id AS user_id, event_date
    FROM bronze.bronze_events
    WHERE entity_type = 'user' AND is_qualifying_event
), counts AS (
    SELECT cohort_type, cohort_start, segment_dimension, segment_value, period_number, as_of_date,
        is_mature,
        count(DISTINCT m.user_id) AS users_in_cohort,
        count(DISTINCT m.user_id) FILTER (WHERE event_date BETWEEN first_day AND last_day) AS retained,
        count(DISTINCT m.user_id) FILTER (WHERE event_date BETWEEN first_day AND as_of_date)
            AS retained_unbounded,
        count(DISTINCT m.user_id) FILTER (WHERE platform_state = 'new') AS state_new,
        count(DISTINCT m.user_id) FILTER (WHERE platform_state = 'active') AS state_active,
        count(DISTINCT m.user_id) FILTER (WHERE platform_state = 'returning') AS state_returning,
        count(DISTINCT m.user_id) FILTER (WHERE platform_state = 'dormant') AS state_dormant,
        count(DISTINCT m.user_id) FILTER (WHERE platform_state = 'churned') AS state_churned,
        count(DISTINCT m.user_id) FILTER (WHERE platform_state = 'reactivated') AS state_reactivated,
        count(DISTINCT m.user_id) FILTER (WHERE platform_state = 'dunning') AS state_dunning,
        count(DISTINCT m.user_id) FILTER (WHERE platform_state = 'deleted') AS state_deleted
    FROM member_periods AS m
    LEFT JOIN uses ON uses.user_id = m.user_id
    LEFT JOIN silver.silver_user_state_history AS history
        ON history.user_id = m.user_id AND history.snapshot_date = last_day
    GROUP BY ALL
)
SELECT cohort_type, cohort_start, segment_dimension, segment_value, period_number, as_of_date,
    users_in_cohort AS users_in_cohort_per_period,
    CASE WHEN is_mature THEN retained END AS users_retained_per_period,
    CASE WHEN is_mature THEN retained::DOUBLE / nullif(users_in_cohort::DOUBLE, 0) END
        AS users_retained_share_per_period,
    CASE WHEN is_mature THEN retained_unbounded END AS users_retained_unbounded_per_period,
    CASE WHEN is_mature THEN retained_unbounded::DOUBLE / nullif(users_in_cohort::DOUBLE, 0) END
        AS users_retained_unbounded_share_per_period,
    CASE WHEN is_mature THEN state_new END AS users_in_state_new_per_period,
    CASE WHEN is_mature THEN state_active END AS users_in_state_active_per_period,
    CASE WHEN is_mature THEN state_returning END AS users_in_state_returning_per_period,
    CASE WHEN is_mature THEN state_dormant END AS users_in_state_dormant_per_period,
    CASE WHEN is_mature THEN state_churned END AS users_in_state_churned_per_period,
    CASE WHEN is_mature THEN state_reactivated END AS users_in_state_reactivated_per_period,
    CASE WHEN is_mature THEN state_dunning END AS users_in_state_dunning_per_period,
    CASE WHEN is_mature THEN state_deleted END AS users_in_state_deleted_per_period
FROM counts
