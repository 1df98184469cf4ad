WITH revenues AS (
    -- Earlier revenue is known only from the first date of the history.
    SELECT account_id, snapshot_date, subscription_tier, is_paid, monthly_recurring_revenue AS revenue
    FROM silver.silver_account_state_history
), tiers AS (
    SELECT subscription_tier, min(valid_from) AS held_from
    FROM silver.silver_account_state_intervals GROUP BY subscription_tier
), accounts AS (
    SELECT today.snapshot_date AS metric_date, today.subscription_tier,
        today.revenue AS now, coalesce(yesterday.revenue, 0) AS before,
        today.is_paid AS pays, coalesce(yesterday.is_paid, false) AS paid,
        EXISTS (
            SELECT * FROM revenues AS earlier
            WHERE earlier.account_id = today.account_id
                AND earlier.snapshot_date < today.snapshot_date AND earlier.is_paid
        ) AS has_paid_before
    FROM revenues AS today LEFT JOIN revenues AS yesterday
        ON yesterday.account_id = today.account_id
        AND yesterday.snapshot_date = today.snapshot_date - 1
)
SELECT metric_date, subscription_tier AS account_tier,
    coalesce(sum(before), 0) AS revenue_opening_daily,
    coalesce(sum(now) FILTER (pays AND NOT paid AND NOT has_paid_before), 0) AS revenue_new_daily,
    coalesce(sum(now - before) FILTER (pays AND paid AND now > before), 0)
        AS revenue_expansion_daily,
    coalesce(sum(now - before) FILTER (pays AND paid AND now < before), 0)
        AS revenue_contraction_daily,
    coalesce(sum(- before) FILTER (paid AND NOT pays), 0) AS revenue_churned_daily,
    coalesce(sum(now) FILTER (pays AND NOT paid AND has_paid_before), 0) AS revenue_reactivated_daily,
    coalesce(sum(now), 0) AS revenue_closing_daily
FROM dates JOIN tiers ON metric_date >= held_from
LEFT JOIN accounts USING (metric_date, subscription_tier)
GROUP BY ALL
