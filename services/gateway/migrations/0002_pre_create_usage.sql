-- What calls of models have used, and what may be used. Days are UTC.

-- One row for every call of a provider, whatever its end; written once.
CREATE TABLE gateway.usage_call (
  id uuid PRIMARY KEY,
  day date NOT NULL,
  org_id uuid NOT NULL,
  user_id uuid NOT NULL,
  bot text NOT NULL,
  run_id uuid,
  provider text NOT NULL,
  model text NOT NULL,
  input_tokens bigint NOT NULL,
  output_tokens bigint NOT NULL,
  cached_tokens bigint NOT NULL,
  reasoning_tokens bigint NOT NULL,
  -- US dollars; NULL where the price is not known.
  cost_usd double precision,
  -- Counted by us, since the provider did not say.
  estimated boolean NOT NULL,
  -- completed, cancelled, abandoned, or the reason of the failure.
  outcome text NOT NULL,
  started_at timestamptz NOT NULL,
  ended_at timestamptz NOT NULL
);
CREATE INDEX usage_call_by_day ON gateway.usage_call (day, org_id, user_id);
CREATE INDEX usage_call_by_run ON gateway.usage_call (run_id) WHERE run_id IS NOT NULL;

-- Their sums, in the same transaction.
CREATE TABLE gateway.usage_day (
  day date NOT NULL,
  org_id uuid NOT NULL,
  user_id uuid NOT NULL,
  bot text NOT NULL,
  provider text NOT NULL,
  model text NOT NULL,
  calls bigint NOT NULL,
  input_tokens bigint NOT NULL,
  output_tokens bigint NOT NULL,
  cached_tokens bigint NOT NULL,
  reasoning_tokens bigint NOT NULL,
  cost_usd double precision NOT NULL,
  estimated_calls bigint NOT NULL,
  PRIMARY KEY (day, org_id, user_id, bot, provider, model)
);

-- What budgets count. `scope` is `u:<organization>:<user>`, `o:<organization>` or `g`, here and in the two tables below.
CREATE TABLE gateway.budget_day (
  day date NOT NULL,
  scope text NOT NULL,
  tokens bigint NOT NULL,
  PRIMARY KEY (day, scope)
) WITH (fillfactor = 50);

-- What was set; where nothing was, the gateway's own defaults hold.
CREATE TABLE gateway.budget (
  scope text PRIMARY KEY,
  -- Tokens a day; NULL: no limit.
  tokens bigint CHECK (tokens >= 0)
);

-- Calls under way that have taken longer than a moment, or were let in by the database.
CREATE TABLE gateway.reservation (
  id uuid PRIMARY KEY,
  day date NOT NULL,
  org_id uuid NOT NULL,
  user_id uuid NOT NULL,
  bot text NOT NULL,
  run_id uuid,
  provider text NOT NULL,
  model text NOT NULL,
  -- What is held back.
  tokens bigint NOT NULL,
  -- What the call is taken to have used when nobody lives to tell.
  input_tokens bigint NOT NULL,
  instance text NOT NULL,
  started_at timestamptz NOT NULL,
  -- By the database's clock; its instance puts it off.
  expires_at timestamptz NOT NULL
);
CREATE INDEX reservation_by_instance ON gateway.reservation (instance);
CREATE INDEX reservation_by_end ON gateway.reservation (expires_at);

-- Stores calls that are over and those under way, and forgets the reservations of the former. A call that is stored already is passed over.
CREATE FUNCTION gateway.keep_usage(p_calls jsonb, p_open jsonb, p_over uuid[], p_instance text, p_lease interval) RETURNS bigint
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_kept bigint;
BEGIN
  -- One at a time: the sums are of few rows, which all instances add to.
  PERFORM pg_advisory_xact_lock(hashtextextended('gateway.usage', 0));
  INSERT INTO gateway.reservation
  SELECT id, day, org_id, user_id, bot, run_id, provider, model, tokens, input_tokens, p_instance, started_at, clock_timestamp() + p_lease
  FROM jsonb_to_recordset(p_open) AS given (
    id uuid, day date, org_id uuid, user_id uuid, bot text, run_id uuid, provider text, model text, tokens bigint, input_tokens bigint,
    started_at timestamptz
  )
  ON CONFLICT (id) DO NOTHING;
  WITH added AS (
    INSERT INTO gateway.usage_call
    SELECT
      id, day, org_id, user_id, bot, run_id, provider, model, input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_usd,
      estimated, outcome, started_at, ended_at
    FROM jsonb_to_recordset(p_calls) AS given (
      id uuid, day date, org_id uuid, user_id uuid, bot text, run_id uuid, provider text, model text, input_tokens bigint,
      output_tokens bigint, cached_tokens bigint, reasoning_tokens bigint, cost_usd double precision, estimated boolean, outcome text,
      started_at timestamptz, ended_at timestamptz
    )
    ON CONFLICT (id) DO NOTHING
    RETURNING *
  ), summed AS (
    INSERT INTO gateway.usage_day AS stored
    SELECT
      day, org_id, user_id, bot, provider, model, count(*), sum(input_tokens), sum(output_tokens), sum(cached_tokens),
      sum(reasoning_tokens), coalesce(sum(cost_usd), 0), count(*) FILTER (WHERE estimated)
    FROM added GROUP BY day, org_id, user_id, bot, provider, model
    ON CONFLICT (day, org_id, user_id, bot, provider, model) DO UPDATE SET
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
  RETURN v_kept;
END
$$;

-- Lets a call in where no budget is passed by it, and holds its tokens back. Answers the first budget that is in the way, or nothing.
CREATE FUNCTION gateway.reserve_tokens(p_call jsonb, p_scopes text[], p_defaults bigint[], p_instance text, p_lease interval)
RETURNS TABLE (scope text, current bigint, most bigint)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_day date := p_call ->> 'day';
BEGIN
  -- The same lock: what is held back and what was used are seen together, once each.
  PERFORM pg_advisory_xact_lock(hashtextextended('gateway.usage', 0));
  RETURN QUERY
    SELECT full_one.scope, full_one.current, full_one.most
    FROM (
      SELECT
        asked.scope, asked.place,
        CASE WHEN budget.scope IS NULL THEN asked.standard ELSE budget.tokens END AS most,
        coalesce(used.tokens, 0) + coalesce((
          SELECT sum(held.tokens)::bigint FROM gateway.reservation AS held
          WHERE held.day = v_day
            AND asked.scope IN ('g', 'o:' || held.org_id, 'u:' || held.org_id || ':' || held.user_id)
        ), 0) AS current
      FROM unnest(p_scopes, p_defaults) WITH ORDINALITY AS asked (scope, standard, place)
      LEFT JOIN gateway.budget AS budget ON budget.scope = asked.scope
      LEFT JOIN gateway.budget_day AS used ON used.day = v_day AND used.scope = asked.scope
    ) AS full_one
    WHERE full_one.current + (p_call ->> 'tokens')::bigint > full_one.most
    ORDER BY full_one.place
    LIMIT 1;
  IF FOUND THEN
    RETURN;
  END IF;
  PERFORM gateway.keep_usage('[]', jsonb_build_array(p_call), '{}', p_instance, p_lease);
END
$$;

-- Takes back what was held for calls whose instance is gone, and stores these calls as estimated.
CREATE FUNCTION gateway.reclaim_tokens(p_most integer) RETURNS TABLE (id uuid, day date, tokens bigint)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_gone jsonb;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtextextended('gateway.usage', 0));
  SELECT jsonb_agg(to_jsonb(held) || jsonb_build_object(
    'output_tokens', 0, 'cached_tokens', 0, 'reasoning_tokens', 0, 'estimated', true, 'outcome', 'abandoned', 'ended_at', clock_timestamp()
  ))
  INTO v_gone
  FROM (SELECT * FROM gateway.reservation WHERE expires_at < clock_timestamp() LIMIT p_most) AS held;
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

REVOKE EXECUTE ON FUNCTION gateway.keep_usage, gateway.reserve_tokens, gateway.reclaim_tokens FROM PUBLIC;
GRANT EXECUTE ON FUNCTION gateway.keep_usage, gateway.reserve_tokens, gateway.reclaim_tokens TO parley_gateway;
GRANT SELECT, INSERT ON gateway.usage_call TO parley_gateway;
GRANT SELECT, INSERT, UPDATE ON gateway.usage_day, gateway.budget_day TO parley_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON gateway.budget, gateway.reservation TO parley_gateway;
