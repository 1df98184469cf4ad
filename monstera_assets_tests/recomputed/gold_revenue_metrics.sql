WITH revenues AS (
    -- Earlier revenue is known only from the first date of the history.
    SELECT account_id, snapshot_date, is_paid, monthly_recurring_revenue AS revenue
    FROM silver.silver_account_state_history
), accounts AS (
    SELECT metric_date,
        coalesce(today.revenue, 0) AS now,
        coalesce(yesterday.revenue, 0) AS before,
        coalesce(month_ago.revenue, 0) AS month_before,
        coalesce(today.is_paid, false) AS pays,
        coalesce(yesterday.is_paid, false) AS paid,
        coalesce(month_ago.is_paid, false) AS paid_month_before,
        EXISTS (
            SELECT * FROM revenues AS earlier
            WHERE earlier.account_id = account.account_id
                AND earlier.snapshot_date < metric_date AND earlier.is_paid
        ) AS has_paid_before
    FROM dates CROSS JOIN (SELECT DISTINCT account_id FROM bronze.bronze_accounts) AS account
    LEFT JOIN revenues AS today
        ON today.account_id = account.account_id AND today.snapshot_date = metric_date
    LEFT JOIN revenues AS yesterday
        ON yesterday.account_id = account.account_id AND yesterday.snapshot_date = metric_date - 1
    LEFT JOIN revenues AS month_ago
        ON month_ago.account_id = account.account_id AND month_ago.snapshot_date = metric_date - 30
)
SELECT metric_date,
    coalesce(sum(before), 0) AS revenue_opening_daily,
    coalesce(sum(now) FILTER (pays AND NOT paid AND NOT has_paid_before), 0) AS revenue_new_daily,
    coalesce(sum(now - before) FILTER (pays AND paid AND now > before), 0) AS revenue_expansion_daily,
    coalesce(sum(now - before) FILTER (pays AND paid AND now < before), 0)
        AS revenue_contraction_daily,
    coalesce(sum(- before) FILTER (paid AND NOT pays), 0) AS revenue_churned_daily,
    coalesce(sum(now) FILTER (pays AND NOT paid AND has_paid_before), 0) AS revenue_reactivated_daily,
    coalesce(sum(now), 0) AS revenue_closing_daily,
    count(*) FILTER (pays) AS accounts_paying_daily,
    sum(now) FILTER (paid_month_before)::DOUBLE
        / nullif(sum(month_before)::DOUBLE, 0) AS revenue_retained_net_monthly,
    sum(least(now, month_before)) FILTER (paid_month_before)::DOUBLE
        / nullif(sum(month_before)::DOUBLE, 0) AS revenue_retained_gross_monthly
FROM dates LEFT JOIN accounts USING (metric_date)
GROUP BY metric_date
