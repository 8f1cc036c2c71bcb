-- Usage and budgets. What lets calls in and stores them is a function each, defined in the migrations.
-- Arrays are passed as text[]: the driver asks each new connection for the kinds of all others, in a statement that takes longer than these.

-- name: keep_usage
-- Stores calls that are over and calls under way.
SELECT gateway.keep_usage($1::jsonb, $2::jsonb, $3::text[]::uuid[], $4, $5) AS kept;

-- name: reserve_tokens
-- Lets a call in, or answers the budget that is in the way.
SELECT scope, current, most FROM gateway.reserve_tokens($1::jsonb, $2::text[], $3::text[]::bigint[], $4, $5);

-- name: renew_reservations
-- Puts off the end of what an instance holds back for calls it knows of.
UPDATE gateway.reservation SET expires_at = clock_timestamp() + $2::interval WHERE instance = $1 AND id = ANY ($3::text[]::uuid[]);

-- name: reclaim_tokens
-- Takes back what instances held that are gone.
SELECT id, day, tokens FROM gateway.reclaim_tokens($1);

-- name: find_calls
-- Tells which of some calls are stored, as over or as under way, and what those have used that are over.
SELECT asked.id, held.id IS NOT NULL AS open, over.input_tokens + over.output_tokens AS tokens
FROM unnest($1::text[]::uuid[]) AS asked (id)
LEFT JOIN gateway.reservation AS held ON held.id = asked.id
LEFT JOIN gateway.usage_call AS over ON over.id = asked.id
WHERE held.id IS NOT NULL OR over.id IS NOT NULL;

-- name: lock_usage
-- Keeps calls from being let in by the database and from being stored, to the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('gateway.usage', 0));

-- name: read_day
-- Reads what budgets have counted of a day and what is held back; in one statement, so that a call that ends meanwhile is in one of the two.
SELECT
  (SELECT jsonb_object_agg(scope, tokens) FROM gateway.budget_day WHERE day = $1) AS totals,
  (
    SELECT jsonb_agg(to_jsonb(held) - ARRAY['instance', 'expires_at']) FROM gateway.reservation AS held WHERE day = $1
  ) AS open;

-- name: find_used
-- Finds what a scope is known to have used on a day.
SELECT tokens FROM gateway.budget_day WHERE day = $1 AND scope = $2;

-- name: list_budgets
-- Lists the budgets that were set.
SELECT scope, tokens FROM gateway.budget;

-- name: find_budget
-- Finds where a scope stands on a day, and its budget where one was set.
SELECT
  budget.scope IS NOT NULL AS is_set, budget.tokens AS most,
  coalesce((SELECT tokens FROM gateway.budget_day WHERE day = $2 AND scope = $1), 0) + coalesce((
    SELECT sum(tokens)::bigint FROM gateway.reservation
    WHERE day = $2 AND $1 IN ('g', 'o:' || org_id, 'u:' || org_id || ':' || user_id)
  ), 0) AS current
FROM (SELECT) AS nothing
LEFT JOIN gateway.budget AS budget ON budget.scope = $1;

-- name: set_budget
-- Sets the budget of a scope.
INSERT INTO gateway.budget (scope, tokens) VALUES ($1, $2)
ON CONFLICT (scope) DO UPDATE SET tokens = excluded.tokens;

-- name: clear_budget
-- Lets the default hold again.
DELETE FROM gateway.budget WHERE scope = $1;

-- name: list_own_usage
-- Sums up a user's usage in an organization by day and model, the newest day first.
SELECT
  day, provider, model, sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
  sum(cached_tokens)::bigint AS cached_tokens, sum(reasoning_tokens)::bigint AS reasoning_tokens, sum(cost_usd) AS cost_usd,
  sum(estimated_calls)::bigint AS estimated_calls
FROM gateway.usage_day
WHERE org_id = $1 AND user_id = $2 AND day >= $3
GROUP BY day, provider, model
ORDER BY day DESC, provider, model;

-- name: list_usage
-- Sums up usage by day and whatever else is asked for, the newest day first, from a place on.
SELECT
  day, org, person, bot_name, vendor, model_name, record, sum(calls)::bigint AS calls, sum(input_tokens)::bigint AS input_tokens,
  sum(output_tokens)::bigint AS output_tokens, sum(cached_tokens)::bigint AS cached_tokens,
  sum(reasoning_tokens)::bigint AS reasoning_tokens, sum(cost_usd) AS cost_usd, sum(estimated_calls)::bigint AS estimated_calls
FROM (
  SELECT
    *, CASE WHEN $5 THEN org_id::text ELSE '' END AS org, CASE WHEN $6 THEN user_id::text ELSE '' END AS person,
    CASE WHEN $7 THEN bot ELSE '' END AS bot_name, CASE WHEN $8 OR $9 THEN provider ELSE '' END AS vendor,
    CASE WHEN $8 THEN model ELSE '' END AS model_name, CASE WHEN $9 THEN provider_name ELSE '' END AS record
  FROM gateway.usage_day
  WHERE day BETWEEN $1 AND $2 AND ($3::uuid IS NULL OR org_id = $3) AND ($4::uuid IS NULL OR user_id = $4)
) AS told
GROUP BY day, org, person, bot_name, vendor, model_name, record
ORDER BY day DESC, org, person, bot_name, vendor, model_name, record
LIMIT $10 OFFSET $11;
