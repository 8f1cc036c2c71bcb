-- The checkpoints of many runs in one transaction: what an instance of chat stores once a second of each run it owns falls due together.

-- As the function for one run does it, in one statement a run, each with the claims of its own user. Of a run that cannot be kept (it has ended, or has
-- another owner) no row is returned: what is the matter the function for one run says.
CREATE FUNCTION chat.keep_runs(
  p_claims text[],
  p_run_ids uuid[],
  p_fences bigint[],
  p_parts jsonb[],
  p_text_bytes bigint[],
  p_usages jsonb[],
  p_last_seqs bigint[],
  p_leases interval[]
) RETURNS TABLE (place integer, cancel_requested boolean)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
  v_place integer;
  v_done text;
BEGIN
  -- Always in one order, so that no two of these wait for each other.
  FOR v_place IN SELECT number FROM generate_subscripts(p_run_ids, 1) AS number ORDER BY p_run_ids[number] LOOP
    v_done := set_config('request.jwt.claims', p_claims[v_place], true);
    RETURN QUERY
      WITH kept AS (
        UPDATE chat.run
        SET last_seq = greatest(last_seq, p_last_seqs[v_place]), suspected_at = NULL,
          lease_expires_at = greatest(lease_expires_at, clock_timestamp() + p_leases[v_place])
        WHERE org_id = (p_claims[v_place]::jsonb ->> 'org')::uuid AND id = p_run_ids[v_place] AND fence = p_fences[v_place]
          AND status = 'running' AND released_at IS NULL
        RETURNING org_id, answer_message_id, old.last_seq AS stored_seq, cancel_requested_at
      ), stored AS (
        -- An older checkpoint that was overtaken on its way stores nothing: what is stored holds more.
        UPDATE chat.message
        SET parts = p_parts[v_place], text_bytes = p_text_bytes[v_place], usage = coalesce(p_usages[v_place], usage)
        FROM kept
        WHERE message.org_id = kept.org_id AND message.id = kept.answer_message_id AND p_last_seqs[v_place] >= kept.stored_seq
      )
      SELECT v_place, kept.cancel_requested_at IS NOT NULL FROM kept;
  END LOOP;
END
$$;

REVOKE EXECUTE ON FUNCTION chat.keep_runs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.keep_runs TO parley_data;

-- A plan that is made while a table is small is used when it is large; it goes by the indexes from the first.
ALTER FUNCTION chat.lock_run SET enable_seqscan = off;
ALTER FUNCTION chat.end_run SET enable_seqscan = off;
ALTER FUNCTION chat.load_run SET enable_seqscan = off;
ALTER FUNCTION chat.history SET enable_seqscan = off;
