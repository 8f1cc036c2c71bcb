-- A run that is claimed is gone on with by a service that gets itself a token for its user. That token must be able to do no more than the one the run
-- was begun with, which may have been a program's, narrower than its user.

-- Taken from the claims that policies go by, so that every function that begins a run, also the last release's, notes it. Empty: begun before this
-- was noted.
ALTER TABLE chat.run
  ADD COLUMN begun_as text NOT NULL
    DEFAULT coalesce(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role', '');

GRANT SELECT (begun_as) ON chat.run TO parley_claimer;

-- chat.claim_runs, and with what role each run was begun. The function of the last release stays for its instances.
CREATE FUNCTION chat.claim_runs_and_roles(
  p_claims text,
  p_owner text,
  p_lease interval,
  p_suspicion interval,
  p_max_runs integer,
  p_per_user integer,
  p_per_conversation integer
) RETURNS TABLE (
  begun_as text,
  kind text, previous_owner text, org_id uuid, user_id uuid, id uuid, conversation_id uuid, user_message_id uuid,
  answer_message_id uuid, client_message_id text, model text, response_model text, status text, error_reason text, owner text,
  lease_expires_at timestamptz, fence bigint, last_seq bigint, created_at timestamptz, ended_at timestamptz,
  cancel_requested_at timestamptz, tries integer, max_tries integer, takeovers integer, next_due_at timestamptz
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_claimed record;
BEGIN
  FOR v_claimed IN
    SELECT claimed.* FROM chat.claim_runs(p_claims, p_owner, p_lease, p_suspicion, p_max_runs, p_per_user, p_per_conversation) AS claimed
  LOOP
    -- A statement of its own, which sees what was claimed: the one above does not.
    RETURN QUERY
      SELECT
        (SELECT run.begun_as FROM chat.run WHERE run.org_id = v_claimed.org_id AND run.id = v_claimed.id),
        v_claimed.kind, v_claimed.previous_owner, v_claimed.org_id, v_claimed.user_id, v_claimed.id, v_claimed.conversation_id,
        v_claimed.user_message_id, v_claimed.answer_message_id, v_claimed.client_message_id, v_claimed.model, v_claimed.response_model,
        v_claimed.status, v_claimed.error_reason, v_claimed.owner, v_claimed.lease_expires_at, v_claimed.fence, v_claimed.last_seq,
        v_claimed.created_at, v_claimed.ended_at, v_claimed.cancel_requested_at, v_claimed.tries, v_claimed.max_tries,
        v_claimed.takeovers, v_claimed.next_due_at;
  END LOOP;
END
$$;

REVOKE EXECUTE ON FUNCTION chat.claim_runs_and_roles FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.claim_runs_and_roles TO parley_data;
GRANT CREATE ON SCHEMA chat TO parley_claimer;
ALTER FUNCTION chat.claim_runs_and_roles OWNER TO parley_claimer;
REVOKE CREATE ON SCHEMA chat FROM parley_claimer;
