-- How many turns a person may begin in a minute, an hour and a day. The windows slide.

-- When a user began their newest turns of the last day, oldest first, as many as the limits need. A row of its own, not a count of runs: those go
-- with their conversation, and whoever deletes what was said would be free to begin anew.
CREATE TABLE chat.pace (
  org_id uuid NOT NULL,
  user_id uuid NOT NULL,
  begun_at timestamptz[] NOT NULL,
  PRIMARY KEY (org_id, user_id)
) WITH (fillfactor = 50);

ALTER TABLE chat.pace ENABLE ROW LEVEL SECURITY;
ALTER TABLE chat.pace FORCE ROW LEVEL SECURITY;
CREATE POLICY pace_is_the_callers ON chat.pace USING (
  org_id = (SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'org')::uuid)
  AND user_id = (SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid)
);
GRANT SELECT, INSERT ON chat.pace TO parley_data;
GRANT UPDATE (begun_at) ON chat.pace TO parley_data;

-- chat.start_run, where the user's pace allows it. The function of the last release stays for its instances.
CREATE FUNCTION chat.start_run_in_pace(
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
  p_branch_message_id uuid,
  p_per_minute integer,
  p_per_hour integer,
  p_per_day integer
) RETURNS TABLE (
  item text, existing boolean, conversation_created boolean, untitled boolean, run chat.run, message chat.message,
  limit_type text, limit_current integer, limit_most integer, limit_resets_at timestamptz
)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_user_id uuid := p_claims::jsonb ->> 'sub';
  v_most integer := greatest(p_per_minute, p_per_hour, p_per_day);
  v_begun_at timestamptz[];
  v_count integer;
  v_window record;
BEGIN
  IF v_most > 0 THEN
    PERFORM set_config('request.jwt.claims', p_claims, true);
    -- The lock of start_run: from here on runs of one user begin one after the other.
    PERFORM pg_advisory_xact_lock(hashtextextended(v_org_id::text || v_user_id::text, 0));
    SELECT begun_at INTO v_begun_at FROM chat.pace WHERE org_id = v_org_id AND user_id = v_user_id;
    v_begun_at := coalesce(v_begun_at, '{}');
    v_count := cardinality(v_begun_at);
    FOR v_window IN
      SELECT * FROM (VALUES
        ('requests_minute', p_per_minute, interval '1 minute'),
        ('requests_hour', p_per_hour, interval '1 hour'),
        ('requests_day', p_per_day, interval '1 day')
      ) AS windows (name, most, length)
    LOOP
      -- The one whose leaving makes room is the limit's own number back from the newest.
      IF v_window.most > 0 AND v_begun_at[v_count - v_window.most + 1] > p_now - v_window.length
        -- A message that comes again is no further turn.
        AND NOT (p_client_message_id IS NOT NULL AND EXISTS (
          SELECT FROM chat.run
          WHERE org_id = v_org_id AND conversation_id = coalesce(p_conversation_id, p_new_conversation_id)
            AND client_message_id = p_client_message_id
        ))
      THEN
        RETURN QUERY SELECT
          'limited', false, false, false, NULL::chat.run, NULL::chat.message, v_window.name,
          (SELECT count(*)::integer FROM unnest(v_begun_at) AS moment WHERE moment > p_now - v_window.length), v_window.most,
          v_begun_at[v_count - v_window.most + 1] + v_window.length;
        RETURN;
      END IF;
    END LOOP;
  END IF;
  RETURN QUERY
    SELECT started.*, NULL::text, NULL::integer, NULL::integer, NULL::timestamptz
    FROM chat.start_run(
      p_claims, p_conversation_id, p_new_conversation_id, p_run_id, p_user_message_id, p_answer_message_id, p_client_message_id, p_parts,
      p_text_bytes, p_content_sha256, p_model, p_owner, p_now, p_lease, p_history_max_messages, p_history_max_bytes, p_background, p_max_tries,
      p_on_conflict, p_per_user, p_per_conversation, p_queued_per_user, p_branch, p_branch_message_id
    ) AS started;
  IF v_most > 0 AND EXISTS (SELECT FROM chat.run WHERE org_id = v_org_id AND id = p_run_id) THEN
    -- Clocks of instances differ a little; each moment is taken for no earlier than the one before.
    v_begun_at := (v_begun_at || greatest(p_now, v_begun_at[v_count]))[greatest(v_count + 2 - v_most, 1):];
    INSERT INTO chat.pace AS stored (org_id, user_id, begun_at) VALUES (v_org_id, v_user_id, v_begun_at)
    ON CONFLICT (org_id, user_id) DO UPDATE SET begun_at = excluded.begun_at;
  END IF;
END
$$;

REVOKE EXECUTE ON FUNCTION chat.start_run_in_pace FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.start_run_in_pace TO parley_data;
