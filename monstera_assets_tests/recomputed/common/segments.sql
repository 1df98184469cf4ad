-- Each user's account and segments on each date, for the queries of the segmented tables.

CREATE TEMP TABLE user_versions AS
-- An entity's first version also applies to earlier days.
SELECT *, CASE WHEN valid_from > min(valid_from) OVER (PARTITION BY user_id)
    THEN valid_from ELSE DATE '0001-01-01' END AS from_day
FROM bronze.bronze_users;

CREATE TEMP TABLE people AS
-- Each user on each date since signup, with the version of the date and the account's tier on it. An
-- account that does not exist yet has no row.
SELECT metric_date, user_id, users.account_id, signup_date, country, plan_type,
    acquisition_source, coalesce(subscription_tier, 'unknown') AS tier
FROM dates
JOIN user_versions AS users ON users.from_day <= metric_date AND signup_date <= metric_date
LEFT JOIN silver.silver_account_state_history AS accounts
    ON accounts.account_id = users.account_id AND snapshot_date = metric_date
QUALIFY row_number() OVER (PARTITION BY metric_date, user_id ORDER BY users.from_day DESC) = 1;

CREATE TEMP TABLE segments AS
SELECT metric_date, user_id, account_id, signup_date, unnest([
    {'dimension': 'all', 'value': 'all'},
    {'dimension': 'country', 'value': country},
    {'dimension': 'plan_type', 'value': plan_type},
    {'dimension': 'acquisition_source', 'value': acquisition_source},
    {'dimension': 'account_tier', 'value': tier}
]) AS segment
FROM people;

CREATE TEMP TABLE held AS
SELECT dates.metric_date, segment
FROM dates JOIN (
    SELECT segment, min(metric_date) AS held_from FROM segments GROUP BY segment
) AS first ON held_from <= dates.metric_date OR segment.dimension = 'all';
