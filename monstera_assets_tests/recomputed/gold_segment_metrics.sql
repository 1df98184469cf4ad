WITH segments AS (
    SELECT segment_dimension, unnest(segment_values) AS segment_value
    FROM (VALUES
        ('platform_state', ['new', 'active', 'returning', 'dormant', 'churned', 'reactivated',
            'dunning', 'deleted']),
        ('activity_state', ['new', 'active', 'returning', 'dormant', 'churned', 'reactivated']),
        ('engagement_intensity', ['at_risk', 'power', 'regular', 'casual', 'inactive']),
        ('value_realization', ['high', 'moderate', 'low', 'none']),
        ('product_breadth', ['platform_power', 'multi', 'explorer', 'single', 'none']),
        ('journey_stage', ['reactivation', 'onboarding', 'adoption', 'retention', 'loyalty']),
        ('feature_adoption', ['completionist', 'advanced', 'abandoner', 'core']),
        ('collaboration_type', ['team_leader', 'collaborator', 'team_member', 'solo']),
        ('temporal_pattern', ['daily', 'weekly', 'monthly', 'seasonal', 'erratic']),
        ('composite_segment', ['struggling_new_user', 'expanding_power_user', 'at_risk_core_user',
            'high_value_team_leader', 'standard'])
    ) AS dimensions (segment_dimension, segment_values)
), members AS (
    SELECT snapshot_date, user_id, segment_dimension, segment_value
    FROM (
        UNPIVOT (
            SELECT snapshot_date, user_id, platform_state, activity_state
            FROM silver.silver_user_state_history
        ) ON platform_state, activity_state INTO NAME segment_dimension VALUE segment_value
    )
    UNION ALL
    SELECT snapshot_date, user_id, segment_dimension, segment_value
    FROM (
        UNPIVOT (
            SELECT snapshot_date, user_id, engagement_intensity, value_realization, product_breadth,
                journey_stage, feature_adoption, collaboration_type, temporal_pattern,
                composite_segment
            FROM silver.silver_user_segment_history
        ) ON COLUMNS(* EXCLUDE (snapshot_date, user_id))
        INTO NAME segment_dimension VALUE segment_value
    )
), uses AS (
    SELECT event_id, entity_id AS user_id, event_date
    FROM bronze.bronze_events
    WHERE entity_type = 'user' AND is_qualifying_event
), users AS (
    SELECT metric_date, count(user_id) AS users
    FROM dates LEFT JOIN bronze.bronze_users ON signup_date <= metric_date
    GROUP BY metric_date
)
SELECT metric_date, segments.segment_dimension, segments.segment_value,
    count(DISTINCT members.user_id) AS users_in_segment_daily,
    count(DISTINCT members.user_id)::DOUBLE
        / nullif(any_value(users)::DOUBLE, 0) AS users_in_segment_share_daily,
    count(DISTINCT uses.user_id) FILTER (event_date = metric_date) AS users_in_segment_active_daily,
    count(DISTINCT uses.user_id) AS users_in_segment_active_monthly,
    count(DISTINCT event_id) AS events_in_segment_qualifying_monthly
FROM users CROSS JOIN segments
LEFT JOIN members ON members.snapshot_date = metric_date
    AND members.segment_dimension = segments.segment_dimension
    AND members.segment_value = segments.segment_value
LEFT JOIN uses ON uses.user_id = members.user_id
    AND event_date BETWEEN metric_date - 29 AND metric_date
GROUP BY ALL
