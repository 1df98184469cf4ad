WITH uses AS (
    SELECT DISTINCT entity_id AS user_id, account_id, event_date
    FROM bronze.bronze_events JOIN bronze.bronze_users ON user_id = entity_id
    WHERE entity_type = 'user' AND is_qualifying_event
), active AS (
    SELECT metric_date,
        count(DISTINCT user_id) FILTER (WHERE event_date = metric_date) AS users_active_daily,
        count(DISTINCT user_id) FILTER (WHERE event_date BETWEEN metric_date - 6 AND metric_date)
            AS users_active_weekly,
        count(DISTINCT user_id) FILTER (WHERE event_date BETWEEN metric_date - 29 AND metric_date)
            AS users_active_monthly,
        count(DISTINCT account_id) FILTER (WHERE event_date BETWEEN metric_date - 29 AND metric_date)
            AS accounts_active_monthly
    FROM dates LEFT JOIN uses ON true
    GROUP BY ALL
), signups AS (
    SELECT users.user_id, signup_date,
        min(event_date) AS first_qualifying_date
    FROM bronze.bronze_users AS users LEFT JOIN uses ON uses.user_id = users.user_id
    GROUP BY ALL
), created AS (
    SELECT metric_date,
        count(DISTINCT user_id) FILTER (WHERE signup_date = metric_date) AS users_created_daily,
        count(DISTINCT user_id) FILTER (
            WHERE signup_date BETWEEN metric_date - 13 AND metric_date - 7
            AND first_qualifying_date - signup_date <= 7
        ) AS users_activated_weekly,
        count(DISTINCT user_id) FILTER (
            WHERE signup_date BETWEEN metric_date - 13 AND metric_date - 7
        ) AS users_activated_population_weekly,
        users_activated_weekly::DOUBLE / nullif(users_activated_population_weekly::DOUBLE, 0)
            AS users_activated_share_weekly
    FROM dates LEFT JOIN signups ON true
    GROUP BY ALL
), user_states AS (
    SELECT metric_date,
        count(DISTINCT user_id) FILTER (WHERE platform_state = 'new')
            AS users_in_state_new_daily,
        count(DISTINCT user_id) FILTER (WHERE platform_state = 'active')
            AS users_in_state_active_daily,
        count(DISTINCT user_id) FILTER (WHERE platform_state = 'returning')
            AS users_in_state_returning_daily,
        count(DISTINCT user_id) FILTER (WHERE platform_state = 'dormant')
            AS users_in_state_dormant_daily,
        count(DISTINCT user_id) FILTER (WHERE platform_state = 'churned')
            AS users_in_state_churned_daily,
        count(DISTINCT user_id) FILTER (WHERE platform_state = 'reactivated')
            AS users_in_state_reactivated_daily,
        count(DISTINCT user_id) FILTER (WHERE platform_state = 'dunning')
            AS users_in_state_dunning_daily,
        count(DISTINCT user_id) FILTER (WHERE platform_state = 'deleted')
            AS users_in_state_deleted_daily
    FROM dates LEFT JOIN silver.silver_user_state_history ON snapshot_date = metric_date
    GROUP BY ALL
), account_states AS (
    SELECT metric_date,
        count(DISTINCT account_id) FILTER (WHERE current_state = 'trial')
            AS accounts_in_state_trial_daily,
        count(DISTINCT account_id) FILTER (WHERE current_state = 'new_paid')
            AS accounts_in_state_new_paid_daily,
        count(DISTINCT account_id) FILTER (WHERE current_state = 'active')
            AS accounts_in_state_active_daily,
        count(DISTINCT account_id) FILTER (WHERE current_state = 'expanding')
            AS accounts_in_state_expanding_daily,
        count(DISTINCT account_id) FILTER (WHERE current_state = 'at_risk')
            AS accounts_in_state_at_risk_daily,
        count(DISTINCT account_id) FILTER (WHERE current_state = 'contracting')
            AS accounts_in_state_contracting_daily,
        count(DISTINCT account_id) FILTER (WHERE current_state = 'churned')
            AS accounts_in_state_churned_daily,
        count(DISTINCT account_id) FILTER (WHERE current_state = 'reactivated')
            AS accounts_in_state_reactivated_daily,
        count(DISTINCT account_id) FILTER (WHERE current_state = 'frozen')
            AS accounts_in_state_frozen_daily,
        coalesce(sum(monthly_recurring_revenue), 0) AS revenue_closing_daily,
        -- The fixed order keeps the floating-point sum reproducible.
        list_sum(list(health_score ORDER BY account_id) FILTER (is_paid))
            / nullif(count(*) FILTER (is_paid), 0)
            AS accounts_health_mean_daily
    FROM dates LEFT JOIN silver.silver_account_state_history ON snapshot_date = metric_date
    GROUP BY ALL
), retained AS (
    SELECT metric_date,
        sum(now.monthly_recurring_revenue)::DOUBLE
            / nullif(sum(past.monthly_recurring_revenue)::DOUBLE, 0)
            AS revenue_retained_net_monthly,
        sum(least(now.monthly_recurring_revenue, past.monthly_recurring_revenue))::DOUBLE
            / nullif(sum(past.monthly_recurring_revenue)::DOUBLE, 0)
            AS revenue_retained_gross_monthly
    FROM dates LEFT JOIN silver.silver_account_state_history AS past
        ON past.snapshot_date = metric_date - 30 AND past.is_paid
    LEFT JOIN silver.silver_account_state_history AS now
        ON now.snapshot_date = metric_date AND now.account_id = past.account_id
    GROUP BY ALL
), facts AS (
    SELECT min(event_date) AS range_from FROM (
        SELECT event_date FROM bronze.bronze_events
        UNION ALL SELECT event_date FROM bronze.bronze_subscription_events
    )
), user_days AS (
    SELECT metric_date, count(*) AS user_days
    FROM dates JOIN (SELECT DISTINCT user_id, event_date FROM uses)
        ON event_date BETWEEN metric_date - 29 AND metric_date
    GROUP BY ALL
), figures AS (
    SELECT * EXCLUDE (range_from, user_days), CASE WHEN metric_date >= range_from + 29
            THEN user_days::DOUBLE / nullif(30 * users_active_monthly::DOUBLE, 0) END
            AS users_active_stickiness_monthly
    FROM dates CROSS JOIN facts LEFT JOIN user_days USING (metric_date)
    JOIN active USING (metric_date) JOIN created USING (metric_date)
    JOIN user_states USING (metric_date) JOIN account_states USING (metric_date)
    JOIN retained USING (metric_date)
)
SELECT figures.*,
    (figures.users_active_daily - week_before.users_active_daily)::DOUBLE
        / nullif(week_before.users_active_daily::DOUBLE, 0)
            AS users_active_daily_week_on_week,
    (figures.users_active_daily - month_before.users_active_daily)::DOUBLE
        / nullif(month_before.users_active_daily::DOUBLE, 0)
            AS users_active_daily_month_on_month,
    (figures.users_active_weekly - week_before.users_active_weekly)::DOUBLE
        / nullif(week_before.users_active_weekly::DOUBLE, 0)
            AS users_active_weekly_week_on_week,
    (figures.users_active_weekly - month_before.users_active_weekly)::DOUBLE
        / nullif(month_before.users_active_weekly::DOUBLE, 0)
            AS users_active_weekly_month_on_month,
    (figures.users_active_monthly - week_before.users_active_monthly)::DOUBLE
        / nullif(week_before.users_active_monthly::DOUBLE, 0)
            AS users_active_monthly_week_on_week,
    (figures.users_active_monthly - month_before.users_active_monthly)::DOUBLE
        / nullif(month_before.users_active_monthly::DOUBLE, 0)
            AS users_active_monthly_month_on_month,
    (figures.users_created_daily - week_before.users_created_daily)::DOUBLE
        / nullif(week_before.users_created_daily::DOUBLE, 0)
            AS users_created_daily_week_on_week,
    (figures.users_created_daily - month_before.users_created_daily)::DOUBLE
        / nullif(month_before.users_created_daily::DOUBLE, 0)
            AS users_created_daily_month_on_month,
    (figures.accounts_active_monthly - week_before.accounts_active_monthly)::DOUBLE
        / nullif(week_before.accounts_active_monthly::DOUBLE, 0)
            AS accounts_active_monthly_week_on_week,
    (figures.accounts_active_monthly - month_before.accounts_active_monthly)::DOUBLE
        / nullif(month_before.accounts_active_monthly::DOUBLE, 0)
            AS accounts_active_monthly_month_on_month,
    (figures.revenue_closing_daily - week_before.revenue_closing_daily)::DOUBLE
        / nullif(week_before.revenue_closing_daily::DOUBLE, 0)
            AS revenue_closing_daily_week_on_week,
    (figures.revenue_closing_daily - month_before.revenue_closing_daily)::DOUBLE
        / nullif(month_before.revenue_closing_daily::DOUBLE, 0)
            AS revenue_closing_daily_month_on_month
FROM figures
LEFT JOIN figures AS week_before ON week_before.metric_date = figures.metric_date - 7
LEFT JOIN figures AS month_before ON month_before.metric_date = figures.metric_date - 30
