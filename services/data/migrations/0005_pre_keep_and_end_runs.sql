-- How a run is kept, given back, tried again and ended by its owner, and stopped by anybody. Leases are by the database's clock.

CREATE FUNCTION chat.lock_run(p_org_id uuid, p_run_id uuid, p_fence bigint, OUT standing text, OUT run chat.run)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  SELECT * INTO run FROM chat.run WHERE org_id = p_org_id AND id = p_run_id FOR NO KEY UPDATE;
  standing := CASE
    WHEN NOT FOUND THEN 'run_not_found'
    WHEN run.fence <> p_fence THEN 'stale_fence'
    -- Nobody owns it until it is claimed, also not the one whose fence it still has.
    WHEN run.status = 'queued' THEN 'queued'
    WHEN run.released_at IS NOT NULL AND run.status = 'running' THEN 'released'
    WHEN run.status <> 'running' THEN 'run_ended'
    ELSE 'owned'
  END;
END
$$;

CREATE FUNCTION chat.store_checkpoint(
  p_claims text,
  p_run_id uuid,
  p_fence bigint,
  p_parts jsonb,
  p_text_bytes bigint,
  p_last_seq bigint,
  p_lease interval
) RETURNS TABLE (outcome text, cancel_requested boolean)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_locked record;
  v_run chat.run;
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  v_locked := chat.lock_run(v_org_id, p_run_id, p_fence);
  v_run := v_locked.run;
  IF v_locked.standing <> 'owned' THEN
    RETURN QUERY SELECT CASE WHEN v_locked.standing IN ('queued', 'released') THEN 'stale_fence' ELSE v_locked.standing END, false;
    RETURN;
  END IF;
  UPDATE chat.run
  SET last_seq = greatest(last_seq, p_last_seq), lease_expires_at = greatest(lease_expires_at, clock_timestamp() + p_lease),
    suspected_at = NULL
  WHERE org_id = v_org_id AND id = p_run_id;
  -- An older checkpoint that was overtaken on its way stores nothing: what is stored holds more.
  IF p_last_seq >= v_run.last_seq THEN
    UPDATE chat.message SET parts = p_parts, text_bytes = p_text_bytes
    WHERE org_id = v_org_id AND id = v_run.answer_message_id;
  END IF;
  RETURN QUERY SELECT 'stored', v_run.cancel_requested_at IS NOT NULL;
END
$$;

CREATE FUNCTION chat.release_run(
  p_claims text,
  p_run_id uuid,
  p_fence bigint,
  p_parts jsonb,
  p_text_bytes bigint,
  p_last_seq bigint
) RETURNS text
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_locked record;
  v_run chat.run;
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  v_locked := chat.lock_run(v_org_id, p_run_id, p_fence);
  v_run := v_locked.run;
  IF v_locked.standing <> 'owned' THEN
    RETURN CASE v_locked.standing WHEN 'queued' THEN 'stale_fence' ELSE v_locked.standing END;
  END IF;
  UPDATE chat.run
  SET last_seq = greatest(last_seq, p_last_seq), lease_expires_at = clock_timestamp(), released_at = clock_timestamp(),
    suspected_at = NULL
  WHERE org_id = v_org_id AND id = p_run_id;
  IF p_last_seq >= v_run.last_seq THEN
    UPDATE chat.message SET parts = p_parts, text_bytes = p_text_bytes
    WHERE org_id = v_org_id AND id = v_run.answer_message_id;
  END IF;
  RETURN 'released';
END
$$;

CREATE FUNCTION chat.end_run(
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
  v_locked record;
  v_run chat.run;
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  SELECT conversation_id INTO v_conversation_id FROM chat.run WHERE org_id = v_org_id AND id = p_run_id;
  PERFORM FROM chat.conversation WHERE org_id = v_org_id AND id = v_conversation_id FOR NO KEY UPDATE;
  v_locked := chat.lock_run(v_org_id, p_run_id, p_fence);
  v_run := v_locked.run;
  IF v_locked.standing = 'run_ended' THEN
    RETURN QUERY SELECT 'finished', v_run;
    RETURN;
  ELSIF v_locked.standing <> 'owned' THEN
    RETURN QUERY SELECT CASE v_locked.standing WHEN 'run_not_found' THEN v_locked.standing ELSE 'stale_fence' END, NULL::chat.run;
    RETURN;
  END IF;
  UPDATE chat.run
  SET status = p_status, error_reason = p_error_reason, response_model = p_model, last_seq = greatest(last_seq, p_last_seq),
    lease_expires_at = NULL, suspected_at = NULL, ended_at = p_now,
    dead_lettered_at = CASE WHEN background AND p_status IN ('failed', 'interrupted') THEN clock_timestamp() END
  WHERE org_id = v_org_id AND id = p_run_id
  RETURNING * INTO v_run;
  UPDATE chat.message
  SET state = p_message_state, parts = p_parts, text_bytes = p_text_bytes, usage = p_usage,
    model = coalesce(nullif(p_model, ''), model)
  WHERE org_id = v_org_id AND id = v_run.answer_message_id;
  UPDATE chat.conversation SET updated_at = greatest(updated_at, p_now) WHERE org_id = v_org_id AND id = v_conversation_id;
  RETURN QUERY SELECT 'finished', v_run;
END
$$;

CREATE FUNCTION chat.retry_run(
  p_claims text,
  p_run_id uuid,
  p_fence bigint,
  p_error_reason text,
  p_delay interval,
  p_parts jsonb,
  p_text_bytes bigint,
  p_usage jsonb,
  p_last_seq bigint,
  p_now timestamptz
) RETURNS TABLE (outcome text, run chat.run)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_conversation_id uuid;
  v_locked record;
  v_run chat.run;
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  SELECT conversation_id INTO v_conversation_id FROM chat.run WHERE org_id = v_org_id AND id = p_run_id;
  PERFORM FROM chat.conversation WHERE org_id = v_org_id AND id = v_conversation_id FOR NO KEY UPDATE;
  v_locked := chat.lock_run(v_org_id, p_run_id, p_fence);
  v_run := v_locked.run;
  IF v_locked.standing = 'queued' THEN
    -- Sent again: it waits already.
    RETURN QUERY SELECT 'stored', v_run;
    RETURN;
  ELSIF v_locked.standing <> 'owned' THEN
    RETURN QUERY SELECT CASE v_locked.standing WHEN 'released' THEN 'stale_fence' ELSE v_locked.standing END, NULL::chat.run;
    RETURN;
  ELSIF v_run.tries >= v_run.max_tries THEN
    RETURN QUERY
      SELECT ended.outcome, ended.run
      FROM chat.end_run(
        p_claims, p_run_id, p_fence, 'failed', 'failed', p_error_reason, p_parts, p_text_bytes, p_usage, '', p_last_seq + 2, p_now
      ) AS ended;
    RETURN;
  END IF;
  UPDATE chat.run
  SET status = 'queued', owner = '', lease_expires_at = NULL, suspected_at = NULL, due_at = clock_timestamp() + p_delay,
    last_seq = greatest(last_seq, p_last_seq)
  WHERE org_id = v_org_id AND id = p_run_id
  RETURNING * INTO v_run;
  UPDATE chat.message SET parts = p_parts, text_bytes = p_text_bytes, usage = p_usage
  WHERE org_id = v_org_id AND id = v_run.answer_message_id;
  RETURN QUERY SELECT 'stored', v_run;
END
$$;

CREATE FUNCTION chat.cancel_run(p_claims text, p_run_id uuid, p_now timestamptz) RETURNS chat.run
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  RETURN chat.stop_run((p_claims::jsonb ->> 'org')::uuid, p_run_id, p_now);
END
$$;

CREATE FUNCTION chat.load_run(
  p_claims text,
  p_run_id uuid,
  p_fence bigint,
  p_history_max_messages integer,
  p_history_max_bytes bigint
) RETURNS TABLE (item text, untitled boolean, run chat.run, message chat.message)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_conversation chat.conversation;
  v_run chat.run;
  v_user_message chat.message;
  v_answer chat.message;
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  SELECT * INTO v_run FROM chat.run WHERE org_id = v_org_id AND id = p_run_id;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'run_not_found', false, NULL::chat.run, NULL::chat.message;
    RETURN;
  ELSIF v_run.fence <> p_fence OR v_run.status = 'queued' OR v_run.status = 'running' AND v_run.released_at IS NOT NULL THEN
    RETURN QUERY SELECT 'stale_fence', false, NULL::chat.run, NULL::chat.message;
    RETURN;
  ELSIF v_run.status <> 'running' THEN
    RETURN QUERY SELECT 'run_ended', false, NULL::chat.run, NULL::chat.message;
    RETURN;
  END IF;
  SELECT * INTO v_conversation FROM chat.conversation WHERE org_id = v_org_id AND id = v_run.conversation_id;
  SELECT * INTO v_user_message FROM chat.message WHERE org_id = v_org_id AND id = v_run.user_message_id;
  SELECT * INTO v_answer FROM chat.message WHERE org_id = v_org_id AND id = v_run.answer_message_id;
  IF v_answer.id IS NULL THEN
    -- Deleted between two statements.
    RETURN QUERY SELECT 'run_not_found', false, NULL::chat.run, NULL::chat.message;
    RETURN;
  END IF;
  RETURN QUERY SELECT 'run', v_conversation.title = '', v_run, NULL::chat.message;
  RETURN QUERY SELECT 'message', false, NULL::chat.run, v_user_message;
  RETURN QUERY SELECT 'message', false, NULL::chat.run, v_answer;
  RETURN QUERY
    SELECT 'history', false, NULL::chat.run, earlier
    FROM chat.history(v_org_id, v_conversation, v_user_message, p_history_max_messages, p_history_max_bytes) AS earlier;
END
$$;

REVOKE EXECUTE ON FUNCTION
  chat.lock_run, chat.store_checkpoint, chat.release_run, chat.end_run, chat.retry_run, chat.cancel_run, chat.load_run FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
  chat.lock_run, chat.store_checkpoint, chat.release_run, chat.end_run, chat.retry_run, chat.cancel_run, chat.load_run TO parley_data;
