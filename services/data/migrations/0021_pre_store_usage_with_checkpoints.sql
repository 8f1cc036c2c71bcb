-- What the steps of an answer have used is stored with the answer while it is written, so that whoever takes the run over need not estimate it. The
-- functions of the last release (store_checkpoint, release_run) stay for its instances.

CREATE FUNCTION chat.keep_run(
  p_claims text,
  p_run_id uuid,
  p_fence bigint,
  p_parts jsonb,
  p_text_bytes bigint,
  p_usage jsonb,
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
    UPDATE chat.message SET parts = p_parts, text_bytes = p_text_bytes, usage = coalesce(p_usage, usage)
    WHERE org_id = v_org_id AND id = v_run.answer_message_id;
  END IF;
  RETURN QUERY SELECT 'stored', v_run.cancel_requested_at IS NOT NULL;
END
$$;

CREATE FUNCTION chat.give_run_back(
  p_claims text,
  p_run_id uuid,
  p_fence bigint,
  p_parts jsonb,
  p_text_bytes bigint,
  p_usage jsonb,
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
    UPDATE chat.message SET parts = p_parts, text_bytes = p_text_bytes, usage = coalesce(p_usage, usage)
    WHERE org_id = v_org_id AND id = v_run.answer_message_id;
  END IF;
  RETURN 'released';
END
$$;

REVOKE EXECUTE ON FUNCTION chat.keep_run, chat.give_run_back FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.keep_run, chat.give_run_back TO parley_data;
