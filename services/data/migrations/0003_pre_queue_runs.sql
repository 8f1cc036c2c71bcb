-- Runs that wait, change hands and are tried again; conversations with branches. Defaults are what an instance of the last release means.

-- Owns the functions that look across tenants for runs nobody owns, and sees nothing that anybody said.
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'parley_claimer') THEN
    CREATE ROLE parley_claimer NOLOGIN NOBYPASSRLS;
  END IF;
EXCEPTION
  -- Roles are the cluster's, not the database's: somebody may be migrating another database of it right now.
  WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

ALTER TABLE chat.conversation
  -- Some message has a sibling: what was said before a message is no longer what has a lower position.
  ADD COLUMN branched boolean NOT NULL DEFAULT false;

ALTER TABLE chat.run
  -- Position of the answer: the order of a conversation's runs.
  ADD COLUMN position bigint NOT NULL DEFAULT 0,
  -- Model that answered; `model` is the one asked for.
  ADD COLUMN response_model text NOT NULL DEFAULT '',
  -- Goes through the queue, is tried again, and is a dead letter when it fails for good.
  ADD COLUMN background boolean NOT NULL DEFAULT false,
  ADD COLUMN tries integer NOT NULL DEFAULT 1 CHECK (tries >= 0),
  ADD COLUMN max_tries integer NOT NULL DEFAULT 1 CHECK (max_tries BETWEEN 1 AND 10),
  -- How often it was taken over from an owner that had gone silent.
  ADD COLUMN takeovers integer NOT NULL DEFAULT 0,
  -- When a queued run may be claimed. This and all that follow are by the database's clock, as leases are.
  ADD COLUMN due_at timestamptz,
  -- When its lease was first seen lapsed; a renewal clears it.
  ADD COLUMN suspected_at timestamptz,
  -- When its owner gave it back; it is claimed before all others.
  ADD COLUMN released_at timestamptz,
  ADD COLUMN cancel_requested_at timestamptz,
  ADD COLUMN dead_lettered_at timestamptz,
  DROP CONSTRAINT run_status_check,
  ADD CONSTRAINT run_status_check CHECK (status IN ('queued', 'running', 'completed', 'cancelled', 'failed', 'interrupted', 'limited')),
  DROP CONSTRAINT run_ends_or_is_leased,
  ADD CONSTRAINT run_waits_is_leased_or_has_ended CHECK (
    (status = 'queued') = (due_at IS NOT NULL)
    AND (status = 'running') = (lease_expires_at IS NOT NULL)
    AND (status IN ('queued', 'running')) = (ended_at IS NULL)
  ),
  ADD CONSTRAINT run_is_a_dead_letter_at_its_end CHECK (dead_lettered_at IS NULL OR status IN ('failed', 'interrupted'));

-- Whoever owns the tables is bound by their policies too, unless it is a superuser.
ALTER TABLE chat.run NO FORCE ROW LEVEL SECURITY;
ALTER TABLE chat.message NO FORCE ROW LEVEL SECURITY;
UPDATE chat.run
SET position = message.position, response_model = CASE WHEN run.ended_at IS NULL THEN '' ELSE message.model END
FROM chat.message WHERE message.org_id = run.org_id AND message.id = run.answer_message_id;
ALTER TABLE chat.run FORCE ROW LEVEL SECURITY;
ALTER TABLE chat.message FORCE ROW LEVEL SECURITY;

-- The same column first as in the index it replaces, which also led a deletion to the runs of a conversation.
CREATE INDEX run_in_order ON chat.run (conversation_id, position, org_id);
DROP INDEX chat.run_by_conversation;
-- A user's active runs, and all there are: few, however many have ended. No column of it changes while a run is being answered.
CREATE INDEX run_active ON chat.run (org_id, user_id) WHERE ended_at IS NULL;
CREATE INDEX run_dead_letter ON chat.run (org_id, dead_lettered_at, id) WHERE dead_lettered_at IS NOT NULL;

GRANT UPDATE (branched) ON chat.conversation TO parley_data;
GRANT UPDATE (
  response_model, tries, due_at, suspected_at, released_at, cancel_requested_at, dead_lettered_at
) ON chat.run TO parley_data;

GRANT USAGE ON SCHEMA chat TO parley_claimer;
GRANT SELECT (
  org_id, id, user_id, conversation_id, user_message_id, answer_message_id, client_message_id, model, response_model, status,
  error_reason, owner, lease_expires_at, fence, last_seq, created_at, ended_at, background, tries, max_tries, takeovers, due_at,
  suspected_at, released_at, cancel_requested_at, dead_lettered_at
) ON chat.run TO parley_claimer;
GRANT UPDATE (
  status, error_reason, owner, lease_expires_at, fence, ended_at, tries, takeovers, due_at, suspected_at, released_at,
  cancel_requested_at, dead_lettered_at
) ON chat.run TO parley_claimer;
-- A dead letter that is tried again has an answer that is being written again.
GRANT SELECT (org_id, id, run_id), UPDATE (state) ON chat.message TO parley_claimer;

CREATE POLICY run_is_claimed ON chat.run TO parley_claimer USING (true);
CREATE POLICY message_is_claimed ON chat.message TO parley_claimer USING (true);
