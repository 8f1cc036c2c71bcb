-- A turn's boundaries, one function each: one round trip, and the rule is checked where the row is locked.
--
-- Each function sets the caller's claims first; its later statements are planned and run on their own, so that policies see them. Each says in
-- `outcome` how it ended, since an exception would fill the server's log with what callers do wrong. Each locks in the order conversation, run,
-- message.

CREATE FUNCTION chat.begin_run(
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
  p_lease_expires_at timestamptz,
  p_history_max_messages integer,
  p_history_max_bytes bigint
) RETURNS TABLE (outcome text, existing boolean, conversation_created boolean, run chat.run, message chat.message)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_user_id uuid := p_claims::jsonb ->> 'sub';
  v_conversation chat.conversation;
  v_conversation_created boolean := false;
  v_existing boolean := false;
  v_run chat.run;
  v_message chat.message;
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);

  IF p_conversation_id IS NULL THEN
    -- The id of a resent first message is taken already, perhaps by a transaction that is just ending: this waits for it.
    INSERT INTO chat.conversation (org_id, id, user_id, created_at, updated_at)
    VALUES (v_org_id, p_new_conversation_id, v_user_id, p_now, p_now)
    ON CONFLICT (org_id, id) DO NOTHING
    RETURNING * INTO v_conversation;
    v_conversation_created := FOUND;
  END IF;
  IF NOT v_conversation_created THEN
    -- From here on the runs of one conversation begin one after the other.
    SELECT * INTO v_conversation FROM chat.conversation
    WHERE org_id = v_org_id AND id = coalesce(p_conversation_id, p_new_conversation_id)
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
      RETURN QUERY SELECT 'conversation_not_found', false, false, NULL::chat.run, NULL::chat.message;
      RETURN;
    END IF;
    IF p_client_message_id IS NOT NULL THEN
      SELECT * INTO v_run FROM chat.run
      WHERE org_id = v_org_id AND conversation_id = v_conversation.id AND client_message_id = p_client_message_id;
      v_existing := FOUND;
    END IF;
  END IF;

  IF v_existing THEN
    IF v_run.content_sha256 <> p_content_sha256 THEN
      RETURN QUERY SELECT 'client_message_id_reused', false, false, NULL::chat.run, NULL::chat.message;
      RETURN;
    END IF;
    SELECT * INTO v_message FROM chat.message WHERE org_id = v_org_id AND id = v_run.user_message_id;
  ELSE
    INSERT INTO chat.run (
      org_id, id, user_id, conversation_id, user_message_id, answer_message_id, client_message_id, content_sha256,
      model, status, owner, lease_expires_at, fence, created_at
    ) VALUES (
      v_org_id, p_run_id, v_user_id, v_conversation.id, p_user_message_id, p_answer_message_id, p_client_message_id,
      p_content_sha256, p_model, 'running', p_owner, p_lease_expires_at, 1, p_now
    ) RETURNING * INTO v_run;
    INSERT INTO chat.message (
      org_id, id, user_id, conversation_id, run_id, parent_id, position, role, state, parts, text_bytes, created_at
    ) VALUES (
      v_org_id, p_user_message_id, v_user_id, v_conversation.id, p_run_id, v_conversation.head_message_id,
      v_conversation.last_position + 1, 'user', 'complete', p_parts, p_text_bytes, p_now
    ) RETURNING * INTO v_message;
    INSERT INTO chat.message (
      org_id, id, user_id, conversation_id, run_id, parent_id, position, role, state, model, parts, text_bytes, created_at
    ) VALUES (
      v_org_id, p_answer_message_id, v_user_id, v_conversation.id, p_run_id, p_user_message_id,
      v_conversation.last_position + 2, 'assistant', 'partial', p_model, '[]', 0, p_now
    );
    UPDATE chat.conversation
    SET head_message_id = p_answer_message_id, last_position = last_position + 2, updated_at = greatest(updated_at, p_now)
    WHERE org_id = v_org_id AND id = v_conversation.id;
  END IF;

  RETURN QUERY SELECT 'begun', v_existing, v_conversation_created, v_run, v_message;
  IF v_conversation_created THEN
    RETURN;
  END IF;
  RETURN QUERY
    -- The run comes once, with the user's message: it need not be read again and again.
    SELECT 'begun', v_existing, v_conversation_created, NULL::chat.run, fitting.earlier
    FROM (
      SELECT newest.earlier, sum((newest.earlier).text_bytes) OVER (ORDER BY (newest.earlier).position DESC) AS total_bytes
      FROM (
        SELECT earlier FROM chat.message AS earlier
        WHERE earlier.org_id = v_org_id AND earlier.conversation_id = v_conversation.id
          AND earlier.position < v_message.position
          AND earlier.state IN ('complete', 'cancelled', 'interrupted') AND earlier.text_bytes > 0
        ORDER BY earlier.position DESC
        LIMIT p_history_max_messages
      ) AS newest
    ) AS fitting
    WHERE fitting.total_bytes <= p_history_max_bytes;
END
$$;

CREATE FUNCTION chat.checkpoint_run(
  p_claims text,
  p_run_id uuid,
  p_fence bigint,
  p_parts jsonb,
  p_text_bytes bigint,
  p_last_seq bigint,
  p_lease_expires_at timestamptz
) RETURNS text
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_run chat.run;
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  SELECT * INTO v_run FROM chat.run WHERE org_id = v_org_id AND id = p_run_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN 'run_not_found';
  ELSIF v_run.fence <> p_fence THEN
    RETURN 'stale_fence';
  ELSIF v_run.status <> 'running' THEN
    RETURN 'run_ended';
  ELSIF p_last_seq < v_run.last_seq THEN
    -- An older checkpoint that was overtaken on its way: what is stored holds more.
    UPDATE chat.run SET lease_expires_at = greatest(lease_expires_at, p_lease_expires_at) WHERE org_id = v_org_id AND id = p_run_id;
    RETURN 'stored';
  END IF;
  UPDATE chat.run SET last_seq = p_last_seq, lease_expires_at = greatest(lease_expires_at, p_lease_expires_at)
  WHERE org_id = v_org_id AND id = p_run_id;
  UPDATE chat.message SET parts = p_parts, text_bytes = p_text_bytes
  WHERE org_id = v_org_id AND id = v_run.answer_message_id;
  RETURN 'stored';
END
$$;

CREATE FUNCTION chat.finish_run(
  p_claims text,
  p_run_id uuid,
  p_fence bigint,
  p_status text,
  p_message_state text,
  p_error_reason text,
  p_parts jsonb,
  p_text_bytes bigint,
  p_usage jsonb,
  p_model text,
  p_last_seq bigint,
  p_now timestamptz
) RETURNS TABLE (outcome text, run chat.run)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_conversation_id uuid;
  v_run chat.run;
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  SELECT conversation_id INTO v_conversation_id FROM chat.run WHERE org_id = v_org_id AND id = p_run_id;
  PERFORM FROM chat.conversation WHERE org_id = v_org_id AND id = v_conversation_id FOR NO KEY UPDATE;
  SELECT * INTO v_run FROM chat.run WHERE org_id = v_org_id AND id = p_run_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'run_not_found', NULL::chat.run;
    RETURN;
  ELSIF v_run.fence <> p_fence THEN
    RETURN QUERY SELECT 'stale_fence', NULL::chat.run;
    RETURN;
  ELSIF v_run.status = 'running' THEN
    UPDATE chat.run
    SET status = p_status, error_reason = p_error_reason, model = coalesce(nullif(p_model, ''), model),
      last_seq = greatest(last_seq, p_last_seq), lease_expires_at = NULL, ended_at = p_now
    WHERE org_id = v_org_id AND id = p_run_id
    RETURNING * INTO v_run;
    UPDATE chat.message
    SET state = p_message_state, parts = p_parts, text_bytes = p_text_bytes, usage = p_usage, model = v_run.model
    WHERE org_id = v_org_id AND id = v_run.answer_message_id;
    UPDATE chat.conversation SET updated_at = greatest(updated_at, p_now) WHERE org_id = v_org_id AND id = v_conversation_id;
  END IF;
  RETURN QUERY SELECT 'finished', v_run;
END
$$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA chat FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA chat TO parley_data;
