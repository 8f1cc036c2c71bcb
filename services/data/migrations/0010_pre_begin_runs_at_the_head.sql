-- How nearly every run begins, in as little as can be: a new message at the head of a conversation without branches, or the first of a new one, while
-- nothing is in its way. Whatever is otherwise is left to chat.start_run_in_pace, with nothing stored here and no row returned but of NULLs.
--
-- This is on the way to the first word of every answer. So settings and locks are assignments, which plpgsql evaluates without the executor, and all
-- that has to be looked at and stored is one statement, whose plan is made once a session. Its snapshot is taken when the user's lock is held: runs
-- that began before are counted, and none begins beside it.
--
-- Tables that are small when a plan is made, and large when it is used, are read by their indexes all the same: hence enable_seqscan.

CREATE FUNCTION chat.begin_run_at_head(
  p_claims text,
  p_conversation_id uuid,
  p_new_conversation_id uuid,
  p_run_id uuid,
  p_user_message_id uuid,
  p_answer_message_id uuid,
  p_client_message_id text,
  p_parts jsonb,
  p_text_bytes bigint,
  p_content_sha256 bytea,
  p_model text,
  p_owner text,
  p_now timestamptz,
  p_lease interval,
  p_history_max_messages integer,
  p_history_max_bytes bigint,
  p_max_tries integer,
  p_per_user integer,
  p_per_conversation integer,
  p_per_minute integer,
  p_per_hour integer,
  p_per_day integer,
  OUT lease_expires_at timestamptz,
  OUT untitled boolean,
  OUT parent_id uuid,
  OUT last_position bigint,
  -- Newest first.
  OUT history_roles text[],
  OUT history_parts jsonb[]
)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_user_id uuid := p_claims::jsonb ->> 'sub';
  v_conversation_id uuid := coalesce(p_conversation_id, p_new_conversation_id);
  v_most integer := greatest(p_per_minute, p_per_hour, p_per_day);
  v_begun_at timestamptz[];
  v_count integer;
  v_done text;
BEGIN
  v_done := set_config('request.jwt.claims', p_claims, true);
  -- The lock of start_run and claim_runs: from here on runs of one user begin one after the other.
  v_done := pg_advisory_xact_lock(hashtextextended(v_org_id::text || v_user_id::text, 0));

  IF v_most > 0 THEN
    SELECT begun_at INTO v_begun_at FROM chat.pace WHERE org_id = v_org_id AND user_id = v_user_id;
    v_begun_at := coalesce(v_begun_at, '{}');
    v_count := cardinality(v_begun_at);
    -- The one whose leaving makes room is the limit's own number back from the newest.
    IF p_per_minute > 0 AND v_begun_at[v_count - p_per_minute + 1] > p_now - interval '1 minute'
      OR p_per_hour > 0 AND v_begun_at[v_count - p_per_hour + 1] > p_now - interval '1 hour'
      OR p_per_day > 0 AND v_begun_at[v_count - p_per_day + 1] > p_now - interval '1 day'
    THEN
      RETURN;
    END IF;
  END IF;

  IF p_conversation_id IS NULL THEN
    -- The id of a resent first message is taken already, perhaps by a transaction that is just ending: this waits for it.
    INSERT INTO chat.conversation (org_id, id, user_id, created_at, updated_at)
    VALUES (v_org_id, p_new_conversation_id, v_user_id, p_now, p_now)
    ON CONFLICT (org_id, id) DO NOTHING;
    IF NOT FOUND THEN
      RETURN;
    END IF;
  END IF;

  WITH place AS (
    -- Says where the message goes and takes the lock under which the runs of one conversation begin one after the other.
    UPDATE chat.conversation
    SET head_message_id = p_answer_message_id, updated_at = greatest(updated_at, p_now), last_position = last_position + 2
    WHERE org_id = v_org_id AND id = v_conversation_id AND NOT branched
      AND (p_client_message_id IS NULL OR NOT EXISTS (
        SELECT FROM chat.run
        WHERE org_id = v_org_id AND conversation_id = v_conversation_id AND client_message_id = p_client_message_id
      ))
      AND (p_per_user = 0 AND p_per_conversation = 0 OR (
        SELECT
          (p_per_user = 0 OR count(*) < p_per_user)
          AND (p_per_conversation = 0 OR count(*) FILTER (WHERE conversation_id = v_conversation_id) < p_per_conversation)
        FROM chat.run WHERE org_id = v_org_id AND user_id = v_user_id AND ended_at IS NULL
      ))
    RETURNING title = '' AS untitled, old.head_message_id AS parent_id, old.last_position AS position
  ), started AS (
    INSERT INTO chat.run (
      org_id, id, user_id, conversation_id, user_message_id, answer_message_id, client_message_id, content_sha256, model, status,
      owner, lease_expires_at, fence, created_at, position, tries, max_tries
    )
    SELECT
      v_org_id, p_run_id, v_user_id, v_conversation_id, p_user_message_id, p_answer_message_id, p_client_message_id,
      p_content_sha256, p_model, 'running', p_owner, clock_timestamp() + p_lease, 1, p_now, place.position + 2, 1, p_max_tries
    FROM place
    RETURNING run.lease_expires_at
  ), said AS (
    INSERT INTO chat.message (
      org_id, id, user_id, conversation_id, run_id, parent_id, position, role, state, model, parts, text_bytes, created_at
    )
    SELECT
      v_org_id, new.id, v_user_id, v_conversation_id, p_run_id, new.parent_id, place.position + new.place, new.role, new.state,
      new.model, new.parts, new.text_bytes, p_now
    FROM place CROSS JOIN LATERAL (
      VALUES
        (p_user_message_id, place.parent_id, 1, 'user', 'complete', '', p_parts, p_text_bytes),
        (p_answer_message_id, p_user_message_id, 2, 'assistant', 'partial', p_model, '[]'::jsonb, 0)
    ) AS new (id, parent_id, place, role, state, model, parts, text_bytes)
  )
  SELECT started.lease_expires_at, place.untitled, place.parent_id, place.position, history.roles, history.parts
  INTO lease_expires_at, untitled, parent_id, last_position, history_roles, history_parts
  FROM place CROSS JOIN started CROSS JOIN LATERAL (
    SELECT
      array_agg(fitting.role) AS roles,
      array_agg(
        CASE fitting.role WHEN 'user' THEN fitting.parts
          ELSE jsonb_path_query_array(fitting.parts, '$[*] ? (@.type != "reasoning")') END
      ) AS parts
    FROM (
      SELECT newest.role, newest.parts, sum(newest.text_bytes) OVER (ORDER BY newest.position DESC) AS total_bytes
      FROM (
        SELECT message.role, message.parts, message.position, message.text_bytes FROM chat.message
        WHERE message.org_id = v_org_id AND message.conversation_id = v_conversation_id AND message.position <= place.position
          AND message.state IN ('complete', 'cancelled', 'interrupted') AND message.text_bytes > 0
        ORDER BY message.position DESC
        LIMIT p_history_max_messages
      ) AS newest
    ) AS fitting
    WHERE fitting.total_bytes <= p_history_max_bytes
  ) AS history;

  IF NOT FOUND THEN
    IF p_conversation_id IS NULL THEN
      DELETE FROM chat.conversation WHERE org_id = v_org_id AND id = p_new_conversation_id;
    END IF;
  ELSIF v_most > 0 THEN
    -- Clocks of instances differ a little; each moment is taken for no earlier than the one before.
    v_begun_at := (v_begun_at || greatest(p_now, v_begun_at[v_count]))[greatest(v_count + 2 - v_most, 1):];
    INSERT INTO chat.pace AS stored (org_id, user_id, begun_at) VALUES (v_org_id, v_user_id, v_begun_at)
    ON CONFLICT (org_id, user_id) DO UPDATE SET begun_at = excluded.begun_at;
  END IF;
END
$$;

REVOKE EXECUTE ON FUNCTION chat.begin_run_at_head FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.begin_run_at_head TO parley_data;
