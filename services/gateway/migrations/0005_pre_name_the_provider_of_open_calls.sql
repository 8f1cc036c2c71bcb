-- Which of our providers a call under way is at, so that its row names it where nobody lives to tell. A table of its own: the release before
-- reads whole rows of gateway.reservation, and knows what to do with no further column. A row is there for each reservation whose provider is
-- known, and goes with it.
CREATE TABLE gateway.reservation_provider (
  id uuid PRIMARY KEY,
  provider_name text NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON gateway.reservation_provider TO parley_gateway;

-- Stores calls that are over and those under way, and forgets the reservations of the former. A call that is stored already is passed over,
-- unless it was stored as abandoned. A call under way that is told of again has gone on to another provider.
CREATE OR REPLACE FUNCTION gateway.keep_usage(p_calls jsonb, p_open jsonb, p_over uuid[], p_instance text, p_lease interval) RETURNS bigint
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_kept bigint;
BEGIN
  -- One at a time: the sums are of few rows, which all instances add to.
  PERFORM pg_advisory_xact_lock(hashtextextended('gateway.usage', 0));
  WITH gone AS (
    DELETE FROM gateway.usage_call AS stored
    USING jsonb_to_recordset(p_calls) AS given (id uuid, outcome text)
    WHERE stored.id = given.id AND stored.outcome = 'abandoned' AND given.outcome <> 'abandoned'
    RETURNING stored.*
  ), summed AS (
    UPDATE gateway.usage_day AS stored SET
      calls = stored.calls - less.calls,
      input_tokens = stored.input_tokens - less.input_tokens,
      output_tokens = stored.output_tokens - less.output_tokens,
      cached_tokens = stored.cached_tokens - less.cached_tokens,
      reasoning_tokens = stored.reasoning_tokens - less.reasoning_tokens,
      cost_usd = stored.cost_usd - less.cost_usd,
      estimated_calls = stored.estimated_calls - less.estimated_calls
    FROM (
      SELECT
        day, org_id, user_id, bot, provider, model, provider_name, count(*) AS calls, sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens, sum(cached_tokens) AS cached_tokens, sum(reasoning_tokens) AS reasoning_tokens,
        coalesce(sum(cost_usd), 0) AS cost_usd,
        count(*) FILTER (WHERE estimated) AS estimated_calls
      FROM gone GROUP BY day, org_id, user_id, bot, provider, model, provider_name
    ) AS less
    WHERE (stored.day, stored.org_id, stored.user_id, stored.bot, stored.provider, stored.model, stored.provider_name)
      = (less.day, less.org_id, less.user_id, less.bot, less.provider, less.model, less.provider_name)
  )
  UPDATE gateway.budget_day AS stored SET tokens = stored.tokens - less.tokens
  FROM (
    SELECT day, scope, sum(input_tokens + output_tokens) AS tokens
    FROM gone CROSS JOIN LATERAL unnest(ARRAY['g', 'o:' || org_id, 'u:' || org_id || ':' || user_id]) AS scope
    GROUP BY day, scope
  ) AS less
  WHERE stored.day = less.day AND stored.scope = less.scope;
  INSERT INTO gateway.reservation
  SELECT id, day, org_id, user_id, bot, run_id, provider, model, tokens, input_tokens, p_instance, started_at, clock_timestamp() + p_lease
  FROM jsonb_to_recordset(p_open) AS given (
    id uuid, day date, org_id uuid, user_id uuid, bot text, run_id uuid, provider text, model text, tokens bigint, input_tokens bigint,
    started_at timestamptz
  )
  ON CONFLICT (id) DO UPDATE SET provider = excluded.provider, model = excluded.model;
  INSERT INTO gateway.reservation_provider
  SELECT id, provider_name FROM jsonb_to_recordset(p_open) AS given (id uuid, provider_name text)
  WHERE provider_name <> ''
  ON CONFLICT (id) DO UPDATE SET provider_name = excluded.provider_name;
  WITH added AS (
    INSERT INTO gateway.usage_call
    SELECT
      id, day, org_id, user_id, bot, run_id, provider, model, input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_usd,
      estimated, outcome, started_at, ended_at, coalesce(provider_name, '')
    FROM jsonb_to_recordset(p_calls) AS given (
      id uuid, day date, org_id uuid, user_id uuid, bot text, run_id uuid, provider text, model text, input_tokens bigint,
      output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint, cost_usd double precision, estimated boolean, outcome text,
      started_at timestamptz, ended_at timestamptz, provider_name text
    )
    ON CONFLICT (id) DO NOTHING
    RETURNING *
  ), summed AS (
    INSERT INTO gateway.usage_day AS stored
    SELECT
      day, org_id, user_id, bot, provider, model, count(*), sum(input_tokens), sum(output_tokens), sum(cached_tokens),
      sum(reasoning_tokens), coalesce(sum(cost_usd), 0), count(*) FILTER (WHERE estimated), provider_name
    FROM added GROUP BY day, org_id, user_id, bot, provider, model, provider_name
    ON CONFLICT (day, org_id, user_id, bot, provider, model, provider_name) DO UPDATE SET
      calls = stored.calls + excluded.calls,
      input_tokens = stored.input_tokens + excluded.input_tokens,
      output_tokens = stored.output_tokens + excluded.output_tokens,
      cached_tokens = stored.cached_tokens + excluded.cached_tokens,
      reasoning_tokens = stored.reasoning_tokens + excluded.reasoning_tokens,
      cost_usd = stored.cost_usd + excluded.cost_usd,
      estimated_calls = stored.estimated_calls + excluded.estimated_calls
  ), counted AS (
    INSERT INTO gateway.budget_day AS stored
    SELECT day, scope, sum(input_tokens + output_tokens)
    FROM added CROSS JOIN LATERAL unnest(ARRAY['g', 'o:' || org_id, 'u:' || org_id || ':' || user_id]) AS scope
    GROUP BY day, scope
    ON CONFLICT (day, scope) DO UPDATE SET tokens = stored.tokens + excluded.tokens
  )
  SELECT count(*) INTO v_kept FROM added;
  DELETE FROM gateway.reservation WHERE id = ANY (p_over);
  DELETE FROM gateway.reservation_provider WHERE id = ANY (p_over);
  RETURN v_kept;
END
$$;

-- Takes back what was held for calls whose instance is gone, and stores these calls as estimated.
CREATE OR REPLACE FUNCTION gateway.reclaim_tokens(p_most integer) RETURNS TABLE (id uuid, day date, tokens bigint)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_gone jsonb;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('gateway.usage', 0));
  SELECT jsonb_agg(to_jsonb(held) || jsonb_build_object(
    'output_tokens', 0, 'cached_tokens', 0, 'reasoning_tokens', 0, 'estimated', true, 'outcome', 'abandoned', 'ended_at', clock_timestamp(),
    'provider_name', named.provider_name
  ))
  INTO v_gone
  FROM (SELECT * FROM gateway.reservation WHERE expires_at < clock_timestamp() LIMIT p_most) AS held
  LEFT JOIN gateway.reservation_provider AS named USING (id);
  IF v_gone IS NULL THEN
    RETURN;
  END IF;
  PERFORM gateway.keep_usage(
    v_gone, '[]', ARRAY(SELECT (gone ->> 'id')::uuid FROM jsonb_array_elements(v_gone) AS gone), '', interval '0'
  );
  RETURN QUERY
    SELECT (gone ->> 'id')::uuid, (gone ->> 'day')::date, (gone ->> 'input_tokens')::bigint FROM jsonb_array_elements(v_gone) AS gone;
END
$$;
