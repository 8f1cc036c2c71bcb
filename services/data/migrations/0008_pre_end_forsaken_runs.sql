-- Runs that one owner after the other has left behind come to an end. An owner ends a run itself when it takes it over for the second time;
-- what gets further could not even be taken up: its user has gone, say.

GRANT UPDATE (last_seq) ON chat.run TO parley_claimer;

CREATE FUNCTION chat.end_forsaken_runs(p_claims text, p_suspicion interval, p_max_takeovers integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  v_now timestamptz := clock_timestamp();
  v_count integer;
BEGIN
  IF p_claims::jsonb ->> 'role' IS DISTINCT FROM 'service' THEN
    RAISE insufficient_privilege USING MESSAGE = 'only a service ends runs that nobody owns';
  END IF;
  WITH ended AS (
    -- Its last two events follow the three with which every log opens, at least.
    UPDATE chat.run
    SET status = 'interrupted', lease_expires_at = NULL, suspected_at = NULL, ended_at = v_now, last_seq = greatest(last_seq, 3) + 2,
      dead_lettered_at = CASE WHEN background THEN v_now END
    FROM (
      SELECT org_id, id FROM chat.run
      WHERE ended_at IS NULL AND status = 'running' AND released_at IS NULL AND takeovers >= p_max_takeovers
        AND lease_expires_at < v_now AND coalesce(suspected_at, v_now) <= v_now - p_suspicion
      FOR NO KEY UPDATE SKIP LOCKED
    ) AS forsaken
    WHERE run.org_id = forsaken.org_id AND run.id = forsaken.id
    RETURNING run.org_id, run.answer_message_id
  )
  UPDATE chat.message SET state = 'interrupted' FROM ended
  WHERE message.org_id = ended.org_id AND message.id = ended.answer_message_id;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END
$$;

REVOKE EXECUTE ON FUNCTION chat.end_forsaken_runs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.end_forsaken_runs TO parley_data;
GRANT CREATE ON SCHEMA chat TO parley_claimer;
ALTER FUNCTION chat.end_forsaken_runs OWNER TO parley_claimer;
REVOKE CREATE ON SCHEMA chat FROM parley_claimer;
