WITH revenues AS (
    -- Earlier revenue is known only from the first date of the history.
    SELECT account_id, snapshot_date, monthly_recurring_revenue AS revenue
    FROM silver.silver_account_state_history
), accounts AS (
    SELECT metric_date,
        coalesce(today.revenue, 0) AS now,
        coalesce(yesterday.revenue, 0) AS before,
        coalesce(month_ago.revenue, 0) AS month_before,
        EXISTS (
            SELECT * FROM revenues AS earlier
            WHERE earlier.account_id = account.account_id
                AND earlier.snapshot_date < metric_date AND earlier.revenue > 0
        ) AS has_paid_before
    FROM dates CROSS JOIN bronze.bronze_accounts AS account
    LEFT JOIN revenues AS today
        ON today.account_id = account.account_id AND today.snapshot_date = metric_date
    LEFT JOIN revenues AS yesterday
        ON yesterday.account_id = account.account_id AND yesterday.snapshot_date = metric_date - 1
    LEFT JOIN revenues AS month_ago
        ON month_ago.account_id = account.account_id AND month_ago.snapshot_date = metric_date - 30
)
SELECT metric_date,
    coalesce(sum(before), 0) AS revenue_opening_daily,
    coalesce(sum(now) FILTER (before = 0 AND NOT has_paid_before), 0) AS revenue_new_daily,
    coalesce(sum(now - before) FILTER (now > before AND before > 0), 0) AS revenue_expansion_daily,
    coalesce(sum(now - before) FILTER (now > 0 AND now < before), 0) AS revenue_contraction_daily,
    coalesce(sum(- before) FILTER (now = 0), 0) AS revenue_churned_daily,
    coalesce(sum(now) FILTER (before = 0 AND has_paid_before), 0) AS revenue_reactivated_daily,
    coalesce(sum(now), 0) AS revenue_closing_daily,
    coalesce(sum(12 * now), 0) AS revenue_annualized_daily,
    count(*) FILTER (now > 0) AS accounts_paying_daily,
    sum(now) FILTER (month_before > 0)::DOUBLE
        / nullif(sum(month_before)::DOUBLE, 0) AS revenue_retained_net_monthly,
    sum(least(now, month_before)) FILTER (month_before > 0)::DOUBLE
        / nullif(sum(month_before)::DOUBLE, 0) AS revenue_retained_gross_monthly
FROM dates LEFT JOIN accounts USING (metric_date)
GROUP BY metric_date
