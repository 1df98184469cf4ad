WITH RECURSIVE ancestors AS (
    SELECT product_id AS node_id, product_id AS ancestor_id, tier, parent_product_id
    FROM bronze.bronze_product_catalog
    UNION ALL
    SELECT node_id, above.product_id, above.tier, above.parent_product_id
    FROM ancestors JOIN bronze.bronze_product_catalog AS above
        ON above.product_id = ancestors.parent_product_id
), published AS (
    SELECT product_id AS id, tier,
        CASE WHEN rtrim(product_id, '_') IN ('all', 'none') THEN product_id || '_'
            ELSE product_id END AS published_id
    FROM bronze.bronze_product_catalog
), nodes AS (
    SELECT node_id,
        coalesce(max(published_id) FILTER (ancestors.tier = 'product'), 'none') AS product_id,
        coalesce(max(published_id) FILTER (
            ancestor_id = node_id AND ancestors.tier IN ('feature', 'sub_feature')
        ), 'none') AS feature_id
    FROM ancestors JOIN published ON id = ancestor_id
    GROUP BY node_id
), events AS (
    SELECT event_id, entity_id AS user_id, event_type, event_timestamp, event_date, location,
        bronze_events.product_id AS node_id, is_qualifying_event,
        coalesce(nodes.product_id, 'none') AS product_id,
        coalesce(nodes.feature_id, 'none') AS feature_id,
        CASE
            WHEN metadata ->> '$.project_id' IS NOT NULL
                THEN 'project ' || (metadata ->> '$.project_id')
            WHEN session_id IS NOT NULL THEN 'session ' || session_id
            ELSE 'day ' || event_date
        END AS instance,
        row_number() OVER (ORDER BY event_timestamp, event_id) AS event_order
    FROM bronze.bronze_events LEFT JOIN nodes ON node_id = bronze_events.product_id
    WHERE entity_type = 'user'
), steps AS (
    SELECT workflow_id, product_id AS node_id, event_type,
        row_number() OVER (PARTITION BY workflow_id ORDER BY step_number) AS step
    FROM bronze.bronze_workflows
), step_events AS (
    SELECT workflow_id, step, user_id, instance, event_order, event_date
    FROM steps JOIN ancestors ON ancestor_id = steps.node_id
    JOIN events ON events.node_id = ancestors.node_id AND events.event_type = steps.event_type
), walks AS (
    SELECT workflow_id, user_id, instance, step, min(event_order) AS first_order,
        min(event_order) AS event_order, min(event_date) AS started_on
    FROM step_events
    WHERE step = 1
    GROUP BY ALL
    UNION ALL
    SELECT workflow_id, user_id, instance, following.step, first_order,
        min(following.event_order), started_on
    FROM walks JOIN step_events AS following USING (workflow_id, user_id, instance)
    WHERE following.step = walks.step + 1 AND following.event_order > walks.event_order
        AND following.event_date - started_on <= 7
    GROUP BY ALL
), runs AS (
    SELECT nodes.product_id, walks.started_on, last_event.event_date AS completed_on,
        epoch_us(last_event.event_timestamp - first_event.event_timestamp)::DOUBLE
            / 3600000000::DOUBLE AS hours
    FROM walks JOIN events AS first_event ON first_event.event_order = walks.first_order
    JOIN steps AS first_step ON first_step.workflow_id = walks.workflow_id AND first_step.step = 1
    JOIN nodes ON nodes.node_id = first_step.node_id
    LEFT JOIN walks AS last_walk ON last_walk.workflow_id = walks.workflow_id
        AND last_walk.user_id = walks.user_id AND last_walk.instance = walks.instance
        AND last_walk.step = (
            SELECT max(step) FROM steps WHERE steps.workflow_id = walks.workflow_id
        )
    LEFT JOIN events AS last_event ON last_event.event_order = last_walk.event_order
    WHERE walks.step = 1
), totals AS (
    SELECT 'all' AS product_id, DATE '0001-01-01' AS used_from
    UNION ALL
    SELECT 'none', DATE '0001-01-01'
    UNION ALL
    SELECT published_id, least(created_date, min(event_date))
    FROM published JOIN bronze.bronze_product_catalog AS catalog ON catalog.product_id = id
    LEFT JOIN events ON events.product_id = published_id
    WHERE published.tier = 'product' GROUP BY published_id, created_date
), total_runs AS (
    SELECT metric_date, totals.product_id,
        count(*) FILTER (started_on = metric_date) AS workflows_started_daily,
        count(*) FILTER (completed_on = metric_date) AS workflows_completed_daily,
        count(*) FILTER (started_on = metric_date - 7 AND completed_on IS NOT NULL)::DOUBLE
            / nullif(count(*) FILTER (started_on = metric_date - 7)::DOUBLE, 0)
            AS workflows_completed_share_weekly,
        median(hours) FILTER (completed_on = metric_date) AS workflows_hours_to_complete_median_daily
    FROM dates JOIN totals ON metric_date >= used_from
    LEFT JOIN runs ON totals.product_id IN ('all', runs.product_id)
    GROUP BY ALL
), total_events AS (
    SELECT metric_date, totals.product_id,
        count(DISTINCT event_id) AS events_recorded_daily,
        count(DISTINCT event_id) FILTER (is_qualifying_event) AS events_qualifying_daily,
        count(DISTINCT user_id) AS users_present_daily,
        count(DISTINCT user_id) FILTER (is_qualifying_event) AS users_active_daily
    FROM dates JOIN totals ON metric_date >= used_from
    LEFT JOIN events ON event_date = metric_date AND totals.product_id IN ('all', events.product_id)
    GROUP BY ALL
)
SELECT metric_date, product_id, feature_id, event_type, location,
    count(DISTINCT event_id) AS events_recorded_daily,
    count(DISTINCT event_id) FILTER (is_qualifying_event) AS events_qualifying_daily,
    count(DISTINCT user_id) AS users_present_daily,
    count(DISTINCT user_id) FILTER (is_qualifying_event) AS users_active_daily,
    NULL AS workflows_started_daily, NULL AS workflows_completed_daily,
    NULL AS workflows_completed_share_weekly, NULL AS workflows_hours_to_complete_median_daily
FROM dates JOIN events ON event_date = metric_date
GROUP BY ALL
UNION ALL BY NAME
SELECT *, 'all' AS feature_id, 'all' AS event_type, 'all' AS location
FROM total_events JOIN total_runs USING (metric_date, product_id)
