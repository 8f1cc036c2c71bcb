-- A new message that takes the place of the one before it stops that one, and nothing else: it used to stop everything of the user's, what waited in
-- the queue and what was answered in the background too. It is the same function, of the same signature: an instance of the last release calls it as
-- before, and what it stops is what it should.

CREATE OR REPLACE FUNCTION chat.start_run(
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
  p_background boolean,
  p_max_tries integer,
  p_on_conflict text,
  p_per_user integer,
  p_per_conversation integer,
  p_queued_per_user integer,
  p_branch text,
  p_branch_message_id uuid
) RETURNS TABLE (
  item text, existing boolean, conversation_created boolean, untitled boolean, run chat.run, message chat.message
)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_user_id uuid := p_claims::jsonb ->> 'sub';
  v_conversation chat.conversation;
  v_created boolean := false;
  v_run chat.run;
  v_target chat.message;
  v_user_message chat.message;
  v_status text := CASE WHEN p_background THEN 'queued' ELSE 'running' END;
  v_of_user bigint;
  v_of_conversation bigint;
  v_queued bigint;
  v_user_is_full boolean := false;
  v_in_the_way boolean := false;
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  IF p_per_user > 0 OR p_per_conversation > 0 OR p_queued_per_user > 0 THEN
    -- From here on runs of one user begin, and are claimed from the queue, one after the other.
    PERFORM pg_advisory_xact_lock(hashtextextended(v_org_id::text || v_user_id::text, 0));
  END IF;

  IF p_conversation_id IS NULL THEN
    -- The id of a resent first message is taken already, perhaps by a transaction that is just ending: this waits for it.
    INSERT INTO chat.conversation (org_id, id, user_id, head_message_id, last_position, created_at, updated_at)
    VALUES (v_org_id, p_new_conversation_id, v_user_id, p_answer_message_id, 2, p_now, p_now)
    ON CONFLICT (org_id, id) DO NOTHING;
    v_created := FOUND;
  END IF;
  IF v_created THEN
    v_conversation.id := p_new_conversation_id;
    v_conversation.title := '';
    v_conversation.branched := false;
    v_conversation.last_position := 0;
  ELSE
    -- From here on the runs of one conversation begin one after the other.
    SELECT * INTO v_conversation FROM chat.conversation
    WHERE org_id = v_org_id AND id = coalesce(p_conversation_id, p_new_conversation_id)
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
      RETURN QUERY SELECT 'conversation_not_found', false, false, false, NULL::chat.run, NULL::chat.message;
      RETURN;
    END IF;
    IF p_client_message_id IS NOT NULL THEN
      SELECT * INTO v_run FROM chat.run
      WHERE org_id = v_org_id AND conversation_id = v_conversation.id AND client_message_id = p_client_message_id;
      IF FOUND THEN
        IF v_run.content_sha256 <> p_content_sha256 THEN
          RETURN QUERY SELECT 'client_message_id_reused', false, false, false, NULL::chat.run, NULL::chat.message;
          RETURN;
        END IF;
        SELECT * INTO v_user_message FROM chat.message WHERE org_id = v_org_id AND id = v_run.user_message_id;
        RETURN QUERY SELECT 'run', true, false, v_conversation.title = '', v_run, NULL::chat.message;
        RETURN QUERY SELECT 'message', true, false, false, NULL::chat.run, v_user_message;
        RETURN QUERY
          SELECT 'message', true, false, false, NULL::chat.run, answer FROM chat.message AS answer
          WHERE answer.org_id = v_org_id AND answer.id = v_run.answer_message_id;
        RETURN QUERY
          SELECT 'history', true, false, false, NULL::chat.run, earlier
          FROM chat.history(v_org_id, v_conversation, v_user_message, p_history_max_messages, p_history_max_bytes) AS earlier;
        RETURN;
      END IF;
    END IF;
  END IF;

  IF p_branch IS NOT NULL THEN
    SELECT * INTO v_target FROM chat.message
    WHERE org_id = v_org_id AND id = p_branch_message_id AND conversation_id = v_conversation.id
      AND role = CASE p_branch WHEN 'edit' THEN 'user' ELSE 'assistant' END;
    IF NOT FOUND THEN
      RETURN QUERY SELECT 'message_not_found', false, false, false, NULL::chat.run, NULL::chat.message;
      RETURN;
    ELSIF v_target.state = 'partial' THEN
      RETURN QUERY SELECT 'message_not_finished', false, false, false, NULL::chat.run, NULL::chat.message;
      RETURN;
    ELSIF p_branch = 'continue' AND v_target.state = 'complete' AND NOT EXISTS (
      -- Cut short by the model's output limit: that can be gone on with as well.
      SELECT FROM chat.run WHERE org_id = v_org_id AND id = v_target.run_id AND status = 'limited'
    ) THEN
      RETURN QUERY SELECT 'not_interrupted', false, false, false, NULL::chat.run, NULL::chat.message;
      RETURN;
    END IF;
    v_conversation.branched := true;
  END IF;

  IF p_per_user > 0 OR p_per_conversation > 0 OR p_queued_per_user > 0 THEN
    SELECT
      count(*), count(*) FILTER (WHERE conversation_id = v_conversation.id),
      count(*) FILTER (WHERE status = 'queued')
    INTO v_of_user, v_of_conversation, v_queued
    FROM chat.run WHERE org_id = v_org_id AND user_id = v_user_id AND ended_at IS NULL;
    v_user_is_full := p_per_user > 0 AND v_of_user >= p_per_user;
    v_in_the_way := NOT p_background
      AND (v_user_is_full OR p_per_conversation > 0 AND v_of_conversation >= p_per_conversation);
    IF v_in_the_way AND p_on_conflict = 'reject' THEN
      SELECT * INTO v_run FROM chat.run
      WHERE org_id = v_org_id AND user_id = v_user_id AND ended_at IS NULL
        AND (v_user_is_full OR conversation_id = v_conversation.id)
      ORDER BY conversation_id = v_conversation.id DESC, status = 'running' DESC, created_at, id
      LIMIT 1;
      IF v_created THEN
        DELETE FROM chat.conversation WHERE org_id = v_org_id AND id = v_conversation.id;
      END IF;
      RETURN QUERY SELECT 'concurrent_request', false, false, false, v_run, NULL::chat.message;
      RETURN;
    END IF;
    IF (p_background OR v_in_the_way) AND p_queued_per_user > 0 AND v_queued >= p_queued_per_user THEN
      IF v_created THEN
        DELETE FROM chat.conversation WHERE org_id = v_org_id AND id = v_conversation.id;
      END IF;
      RETURN QUERY SELECT 'queue_full', false, false, false, NULL::chat.run, NULL::chat.message;
      RETURN;
    END IF;
    IF v_in_the_way THEN
      v_status := 'queued';
      IF p_on_conflict = 'interrupt' THEN
        -- Those that somebody sits before: of this conversation, or, where there is none, the newest of the user's. What waits in the queue, and
        -- what is answered in the background, was asked for as well, and is nobody's to stop but by its name.
        RETURN QUERY
          SELECT 'interrupted', false, false, false, chat.stop_run(v_org_id, other.id, p_now), NULL::chat.message
          FROM (
            SELECT
              id, conversation_id = v_conversation.id AS is_here,
              row_number() OVER (ORDER BY cancel_requested_at IS NOT NULL, created_at DESC, id DESC) AS place,
              count(*) FILTER (WHERE conversation_id = v_conversation.id) OVER () AS of_here
            FROM chat.run
            WHERE org_id = v_org_id AND user_id = v_user_id AND ended_at IS NULL AND status = 'running' AND NOT background
          ) AS other
          WHERE other.is_here OR v_user_is_full AND other.of_here = 0 AND other.place = 1;
      END IF;
    END IF;
  END IF;

  RETURN QUERY
    INSERT INTO chat.run AS stored (
      org_id, id, user_id, conversation_id, user_message_id, answer_message_id, client_message_id, content_sha256, model, status,
      owner, lease_expires_at, fence, created_at, position, background, tries, max_tries, due_at
    ) VALUES (
      v_org_id, p_run_id, v_user_id, v_conversation.id,
      CASE WHEN p_branch IN ('regenerate', 'continue') THEN v_target.parent_id ELSE p_user_message_id END,
      p_answer_message_id, p_client_message_id, p_content_sha256, p_model, v_status,
      CASE v_status WHEN 'running' THEN p_owner ELSE '' END,
      CASE v_status WHEN 'running' THEN clock_timestamp() + p_lease END,
      CASE v_status WHEN 'running' THEN 1 ELSE 0 END,
      p_now, v_conversation.last_position + CASE WHEN p_branch IN ('regenerate', 'continue') THEN 1 ELSE 2 END,
      p_background, CASE v_status WHEN 'running' THEN 1 ELSE 0 END, p_max_tries,
      CASE v_status WHEN 'queued' THEN clock_timestamp() END
    ) RETURNING 'run', false, v_created, v_conversation.title = '', stored, NULL::chat.message;
  IF p_branch IN ('regenerate', 'continue') THEN
    -- The user's message stands; the new answer is a sibling of the old one.
    SELECT * INTO v_user_message FROM chat.message WHERE org_id = v_org_id AND id = v_target.parent_id;
    RETURN QUERY SELECT 'message', false, false, false, NULL::chat.run, v_user_message;
    RETURN QUERY
      INSERT INTO chat.message AS stored (
        org_id, id, user_id, conversation_id, run_id, parent_id, position, role, state, model, parts, text_bytes, created_at
      ) VALUES (
        v_org_id, p_answer_message_id, v_user_id, v_conversation.id, p_run_id, v_target.parent_id,
        v_conversation.last_position + 1, 'assistant', 'partial', p_model,
        CASE p_branch WHEN 'continue' THEN v_target.parts ELSE '[]' END,
        CASE p_branch WHEN 'continue' THEN v_target.text_bytes ELSE 0 END, p_now
      ) RETURNING 'message', false, false, false, NULL::chat.run, stored;
  ELSE
    v_user_message.position := v_conversation.last_position + 1;
    v_user_message.parent_id := CASE p_branch WHEN 'edit' THEN v_target.parent_id ELSE v_conversation.head_message_id END;
    RETURN QUERY
      INSERT INTO chat.message AS stored (
        org_id, id, user_id, conversation_id, run_id, parent_id, position, role, state, model, parts, text_bytes, created_at
      ) VALUES (
        v_org_id, p_user_message_id, v_user_id, v_conversation.id, p_run_id, v_user_message.parent_id,
        v_conversation.last_position + 1, 'user', 'complete', '', p_parts, p_text_bytes, p_now
      ), (
        v_org_id, p_answer_message_id, v_user_id, v_conversation.id, p_run_id, p_user_message_id,
        v_conversation.last_position + 2, 'assistant', 'partial', p_model, '[]', 0, p_now
      ) RETURNING 'message', false, false, false, NULL::chat.run, stored;
  END IF;
  IF v_created THEN
    RETURN;
  END IF;
  UPDATE chat.conversation
  SET head_message_id = p_answer_message_id, updated_at = greatest(updated_at, p_now), branched = v_conversation.branched,
    last_position = last_position + CASE WHEN p_branch IN ('regenerate', 'continue') THEN 1 ELSE 2 END
  WHERE org_id = v_org_id AND id = v_conversation.id;
  IF v_conversation.branched THEN
    RETURN QUERY
      SELECT 'history', false, false, false, NULL::chat.run, earlier
      FROM chat.history(v_org_id, v_conversation, v_user_message, p_history_max_messages, p_history_max_bytes) AS earlier;
    RETURN;
  END IF;
  -- The same as chat.history does without branches, at less cost: this is on the way to the first word of every answer.
  RETURN QUERY
    SELECT 'history', false, false, false, NULL::chat.run, fitting.earlier
    FROM (
      SELECT newest.earlier, sum((newest.earlier).text_bytes) OVER (ORDER BY (newest.earlier).position DESC) AS total_bytes
      FROM (
        SELECT earlier FROM chat.message AS earlier
        WHERE earlier.org_id = v_org_id AND earlier.conversation_id = v_conversation.id
          AND earlier.position <= v_conversation.last_position
          AND earlier.state IN ('complete', 'cancelled', 'interrupted') AND earlier.text_bytes > 0
        ORDER BY earlier.position DESC
        LIMIT p_history_max_messages
      ) AS newest
    ) AS fitting
    WHERE fitting.total_bytes <= p_history_max_bytes;
END
$$;
