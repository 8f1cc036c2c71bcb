-- Looking across tenants for runs nobody owns, and at those that were given up. These functions run as a role of their own, which may read and
-- write the columns of ownership and nothing that anybody said.

CREATE FUNCTION chat.claim_runs(
  p_claims text,
  p_owner text,
  p_lease interval,
  p_suspicion interval,
  p_max_runs integer,
  p_per_user integer,
  p_per_conversation integer
) RETURNS TABLE (
  kind text, previous_owner text, org_id uuid, user_id uuid, id uuid, conversation_id uuid, user_message_id uuid,
  answer_message_id uuid, client_message_id text, model text, response_model text, status text, error_reason text, owner text,
  lease_expires_at timestamptz, fence bigint, last_seq bigint, created_at timestamptz, ended_at timestamptz,
  cancel_requested_at timestamptz, tries integer, max_tries integer, takeovers integer, next_due_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_now timestamptz := clock_timestamp();
  v_room integer := p_max_runs;
  v_found record;
BEGIN
  IF p_claims::jsonb ->> 'role' IS DISTINCT FROM 'service' THEN
    RAISE insufficient_privilege USING MESSAGE = 'only a service claims runs';
  END IF;

  -- A lease that lapsed is at first only suspected. A row that is locked is being renewed, ended or claimed right now.
  UPDATE chat.run SET suspected_at = v_now
  FROM (
    SELECT org_id, id FROM chat.run
    WHERE ended_at IS NULL AND status = 'running' AND lease_expires_at < v_now AND suspected_at IS NULL AND released_at IS NULL
    FOR NO KEY UPDATE SKIP LOCKED
  ) AS lapsed
  WHERE run.org_id = lapsed.org_id AND run.id = lapsed.id;

  FOR v_found IN
    SELECT org_id, id, owner, released_at FROM chat.run
    WHERE ended_at IS NULL AND status = 'running'
      AND (released_at IS NOT NULL OR lease_expires_at < v_now AND suspected_at <= v_now - p_suspicion)
    ORDER BY released_at IS NULL, lease_expires_at
    LIMIT p_max_runs
    FOR NO KEY UPDATE SKIP LOCKED
  LOOP
    v_room := v_room - 1;
    RETURN QUERY
      UPDATE chat.run
      SET owner = p_owner, fence = fence + 1, lease_expires_at = clock_timestamp() + p_lease, suspected_at = NULL, released_at = NULL,
        takeovers = takeovers + CASE WHEN v_found.released_at IS NULL THEN 1 ELSE 0 END
      WHERE org_id = v_found.org_id AND id = v_found.id
      RETURNING
        CASE WHEN v_found.released_at IS NULL THEN 'lapsed' ELSE 'released' END, v_found.owner, org_id, user_id, id, conversation_id,
        user_message_id, answer_message_id, client_message_id, model, response_model, status, error_reason, owner, lease_expires_at,
        fence, last_seq, created_at, ended_at, cancel_requested_at, tries, max_tries, takeovers, NULL::timestamptz;
  END LOOP;

  IF v_room > 0 THEN
    FOR v_found IN
      -- Each user's oldest before any user's second; those that the limits hold back would only be looked at in vain.
      WITH active AS (
        SELECT
          org_id, user_id, conversation_id, id, status, due_at, cancel_requested_at IS NOT NULL AS is_cancelled,
          status = 'queued' AND (due_at <= v_now OR cancel_requested_at IS NOT NULL) AS is_due,
          count(*) FILTER (WHERE status = 'running') OVER (PARTITION BY org_id, user_id) AS of_user,
          count(*) FILTER (WHERE status = 'running') OVER (PARTITION BY conversation_id) AS of_conversation
        FROM chat.run WHERE ended_at IS NULL
      ), free AS (
        SELECT
          org_id, user_id, conversation_id, id, due_at, is_cancelled, of_user,
          row_number() OVER (PARTITION BY org_id, user_id ORDER BY due_at, id) AS place
        FROM active
        WHERE is_due AND (is_cancelled OR p_per_conversation = 0 OR of_conversation < p_per_conversation)
      )
      SELECT org_id, user_id, conversation_id, id, is_cancelled FROM free
      WHERE is_cancelled OR p_per_user = 0 OR of_user < p_per_user
      ORDER BY place, due_at, id
    LOOP
      EXIT WHEN v_room = 0;
      -- Whoever has this lock is beginning or claiming a run of the same user: that one's count is out of date in a moment.
      CONTINUE WHEN NOT pg_try_advisory_xact_lock(hashtextextended(v_found.org_id::text || v_found.user_id::text, 0));
      CONTINUE WHEN NOT v_found.is_cancelled AND (p_per_user > 0 OR p_per_conversation > 0) AND (
        SELECT p_per_user > 0 AND count(*) >= p_per_user
          OR p_per_conversation > 0
            AND count(*) FILTER (WHERE running.conversation_id = v_found.conversation_id) >= p_per_conversation
        FROM chat.run AS running
        WHERE running.org_id = v_found.org_id AND running.user_id = v_found.user_id AND running.ended_at IS NULL
          AND running.status = 'running'
      );
      RETURN QUERY
        UPDATE chat.run
        SET status = 'running', owner = p_owner, fence = fence + 1, lease_expires_at = clock_timestamp() + p_lease, due_at = NULL,
          tries = tries + 1
        FROM (
          SELECT org_id, id FROM chat.run
          WHERE org_id = v_found.org_id AND id = v_found.id AND status = 'queued'
          FOR NO KEY UPDATE SKIP LOCKED
        ) AS free
        WHERE run.org_id = free.org_id AND run.id = free.id
        RETURNING
          'queued', '', run.org_id, run.user_id, run.id, run.conversation_id, run.user_message_id, run.answer_message_id,
          run.client_message_id, run.model, run.response_model, run.status, run.error_reason, run.owner, run.lease_expires_at,
          run.fence, run.last_seq, run.created_at, run.ended_at, run.cancel_requested_at, run.tries, run.max_tries, run.takeovers,
          NULL::timestamptz;
      IF FOUND THEN
        v_room := v_room - 1;
      END IF;
    END LOOP;
  END IF;

  -- The last row says no more than when there will be something to claim.
  next_due_at := (SELECT min(due_at) FROM chat.run WHERE ended_at IS NULL AND status = 'queued' AND due_at > v_now);
  kind := '';
  RETURN NEXT;
END
$$;

CREATE FUNCTION chat.list_dead_letters(p_claims text, p_before_at timestamptz, p_before_id uuid, p_limit integer) RETURNS TABLE (
  user_id uuid, dead_lettered_at timestamptz, id uuid, conversation_id uuid, user_message_id uuid, answer_message_id uuid,
  client_message_id text, model text, response_model text, status text, error_reason text, owner text, lease_expires_at timestamptz,
  fence bigint, last_seq bigint, created_at timestamptz, ended_at timestamptz, cancel_requested_at timestamptz, tries integer,
  max_tries integer, takeovers integer
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT
    user_id, dead_lettered_at, id, conversation_id, user_message_id, answer_message_id, client_message_id, model, response_model,
    status, error_reason, owner, lease_expires_at, fence, last_seq, created_at, ended_at, cancel_requested_at, tries, max_tries,
    takeovers
  FROM chat.run
  WHERE dead_lettered_at IS NOT NULL
    AND (org_id = (p_claims::jsonb ->> 'org')::uuid OR p_claims::jsonb ->> 'role' = 'service')
    AND (dead_lettered_at, id) < (coalesce(p_before_at, 'infinity'), coalesce(p_before_id, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
  ORDER BY dead_lettered_at DESC, id DESC
  LIMIT p_limit
$$;

CREATE FUNCTION chat.retry_dead_letter(p_claims text, p_run_id uuid) RETURNS TABLE (
  id uuid, conversation_id uuid, user_message_id uuid, answer_message_id uuid, client_message_id text, model text,
  response_model text, status text, error_reason text, owner text, lease_expires_at timestamptz, fence bigint, last_seq bigint,
  created_at timestamptz, ended_at timestamptz, cancel_requested_at timestamptz, tries integer, max_tries integer, takeovers integer
)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH queued AS (
    UPDATE chat.run
    SET status = 'queued', due_at = clock_timestamp(), ended_at = NULL, dead_lettered_at = NULL, error_reason = '', owner = '',
      tries = 0, takeovers = 0, cancel_requested_at = NULL
    WHERE id = p_run_id AND dead_lettered_at IS NOT NULL
      AND (org_id = (p_claims::jsonb ->> 'org')::uuid OR p_claims::jsonb ->> 'role' = 'service')
    RETURNING
      org_id, id, conversation_id, user_message_id, answer_message_id, client_message_id, model, response_model, status, error_reason,
      owner, lease_expires_at, fence, last_seq, created_at, ended_at, cancel_requested_at, tries, max_tries, takeovers
  ), reopened AS (
    UPDATE chat.message SET state = 'partial' FROM queued
    WHERE message.org_id = queued.org_id AND message.id = queued.answer_message_id
  )
  SELECT
    id, conversation_id, user_message_id, answer_message_id, client_message_id, model, response_model, status, error_reason, owner,
    lease_expires_at, fence, last_seq, created_at, ended_at, cancel_requested_at, tries, max_tries, takeovers
  FROM queued
$$;

CREATE FUNCTION chat.drop_dead_letter(p_claims text, p_run_id uuid) RETURNS SETOF uuid
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  UPDATE chat.run SET dead_lettered_at = NULL
  WHERE id = p_run_id AND dead_lettered_at IS NOT NULL
    AND (org_id = (p_claims::jsonb ->> 'org')::uuid OR p_claims::jsonb ->> 'role' = 'service')
  RETURNING id
$$;

REVOKE EXECUTE ON FUNCTION chat.claim_runs, chat.list_dead_letters, chat.retry_dead_letter, chat.drop_dead_letter FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.claim_runs, chat.list_dead_letters, chat.retry_dead_letter, chat.drop_dead_letter TO parley_data;

-- Handing them over takes a membership, unless it is a superuser who migrates, and for that moment the right to create.
DO $$
BEGIN
  IF NOT pg_has_role(current_user, 'parley_claimer', 'SET') THEN
    EXECUTE format('GRANT parley_claimer TO %I', current_user);
  END IF;
END
$$;
GRANT CREATE ON SCHEMA chat TO parley_claimer;
ALTER FUNCTION chat.claim_runs OWNER TO parley_claimer;
ALTER FUNCTION chat.list_dead_letters OWNER TO parley_claimer;
ALTER FUNCTION chat.retry_dead_letter OWNER TO parley_claimer;
ALTER FUNCTION chat.drop_dead_letter OWNER TO parley_claimer;
REVOKE CREATE ON SCHEMA chat FROM parley_claimer;
