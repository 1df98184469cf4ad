WITH as_of AS (
    SELECT max(metric_date) AS as_of_date FROM dates
), users AS (
    SELECT user_id FROM bronze.bronze_users, as_of WHERE signup_date <= as_of_date
), products AS (
    SELECT product_id FROM bronze.bronze_product_catalog WHERE tier = 'product' AND is_active
), nodes AS (
    -- Products with their features and sub-features.
    SELECT product_id AS node_id, product_id FROM products
    UNION ALL
    SELECT feature.product_id, products.product_id
    FROM products JOIN bronze.bronze_product_catalog AS feature
        ON feature.parent_product_id = products.product_id
    UNION ALL
    SELECT sub_feature.product_id, products.product_id
    FROM products JOIN bronze.bronze_product_catalog AS feature
        ON feature.parent_product_id = products.product_id
    JOIN bronze.bronze_product_catalog AS sub_feature
        ON sub_feature.parent_product_id = feature.product_id
), adoptions AS (
    SELECT entity_id AS user_id, nodes.product_id, min(event_timestamp) AS adopted_at,
        min(event_date) AS adoption_date,
        min(event_date) FILTER (WHERE is_activation_event) AS activation_date
    FROM bronze.bronze_events JOIN nodes ON nodes.node_id = bronze_events.product_id, as_of
    WHERE entity_type = 'user' AND event_date <= as_of_date
    GROUP BY ALL
), positions AS (
    -- The position of an adoption is the number of the user's adoptions up to it.
    SELECT a.user_id, a.product_id, count(*) AS position
    FROM adoptions AS a JOIN adoptions AS b ON b.user_id = a.user_id
        AND (b.adopted_at, b.product_id) <= (a.adopted_at, a.product_id)
    GROUP BY ALL
), states AS (
    SELECT user_id, product_id, coalesce(current_state, 'never_adopted') AS current_state
    FROM users CROSS JOIN products
    LEFT JOIN (
        SELECT user_id, product_id, current_state
        FROM silver.silver_user_product_state_history JOIN as_of ON snapshot_date = as_of_date
    ) USING (user_id, product_id)
), counts AS (
    SELECT product_id, as_of_date,
        count(DISTINCT user_id) AS users_eligible_to_date,
        count(DISTINCT user_id) FILTER (WHERE adopted_at IS NOT NULL) AS users_tried_to_date,
        count(DISTINCT user_id) FILTER (WHERE activation_date IS NOT NULL) AS users_activated_to_date,
        count(DISTINCT user_id) FILTER (
            WHERE current_state IN ('active_in_product', 'reactivated_in_product')
        ) AS users_in_use_to_date,
        median(activation_date - adoption_date) AS users_days_to_activation_median_to_date,
        count(DISTINCT user_id) FILTER (WHERE position = 1) AS users_started_to_date,
        sum(position)::DOUBLE / nullif(count(position)::DOUBLE, 0)
            AS users_sequence_position_mean_to_date,
        count(DISTINCT user_id) FILTER (WHERE current_state = 'never_adopted')
            AS users_in_state_never_adopted_to_date,
        count(DISTINCT user_id) FILTER (WHERE current_state = 'new_to_product')
            AS users_in_state_new_to_product_to_date,
        count(DISTINCT user_id) FILTER (WHERE current_state = 'active_in_product')
            AS users_in_state_active_in_product_to_date,
        count(DISTINCT user_id) FILTER (WHERE current_state = 'dormant_in_product')
            AS users_in_state_dormant_in_product_to_date,
        count(DISTINCT user_id) FILTER (WHERE current_state = 'churned_from_product')
            AS users_in_state_churned_from_product_to_date,
        count(DISTINCT user_id) FILTER (WHERE current_state = 'reactivated_in_product')
            AS users_in_state_reactivated_in_product_to_date
    FROM products CROSS JOIN as_of
    LEFT JOIN users ON true
    LEFT JOIN adoptions USING (user_id, product_id)
    LEFT JOIN positions USING (user_id, product_id)
    LEFT JOIN states USING (user_id, product_id)
    GROUP BY ALL
)
SELECT *, users_tried_to_date::DOUBLE / nullif(users_eligible_to_date::DOUBLE, 0)
        AS users_tried_share_to_date,
    users_activated_to_date::DOUBLE / nullif(users_tried_to_date::DOUBLE, 0)
        AS users_activated_share_to_date
FROM counts
