-- Conversations, messages and runs, each one user's own, under row-level security.
--
-- Every key begins with the organization, so that the tables can be spread by it. Every table also carries the user, so that a policy compares
-- two columns with the claims and looks nowhere else; the foreign keys carry both, so that no row can hang on a stranger's.

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'parley_data') THEN
    CREATE ROLE parley_data NOLOGIN NOBYPASSRLS;
  END IF;
EXCEPTION
  -- Roles are the cluster's, not the database's: somebody may be migrating another database of it right now.
  WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

CREATE SCHEMA chat;

CREATE TABLE chat.conversation (
  org_id uuid NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  title text NOT NULL DEFAULT '' CHECK (char_length(title) <= 200),
  -- The newest message of the branch that is being talked on; the next one follows it. No foreign key: it would be a cycle.
  head_message_id uuid,
  -- Position of the newest message, given out under the lock of this row.
  last_position bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (org_id, id),
  UNIQUE (org_id, user_id, id)
);

CREATE INDEX conversation_by_activity ON chat.conversation (org_id, user_id, updated_at DESC, id DESC);

-- Made before message, so that deleting a conversation deletes its runs first: whoever stores an answer locks in that order too.
CREATE TABLE chat.run (
  org_id uuid NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  conversation_id uuid NOT NULL,
  -- Run and messages are written together and go with their conversation; foreign keys between them would be a cycle.
  user_message_id uuid NOT NULL,
  answer_message_id uuid NOT NULL,
  -- The caller's own id for the message; NULL where it gave none.
  client_message_id text CHECK (char_length(client_message_id) BETWEEN 1 AND 128),
  -- What a resend must agree with.
  content_sha256 bytea NOT NULL CHECK (octet_length(content_sha256) = 32),
  model text NOT NULL,
  status text NOT NULL CHECK (status IN ('running', 'completed', 'cancelled', 'failed', 'interrupted', 'limited')),
  error_reason text NOT NULL DEFAULT '',
  owner text NOT NULL,
  lease_expires_at timestamptz,
  fence bigint NOT NULL,
  last_seq bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL,
  ended_at timestamptz,
  PRIMARY KEY (org_id, id),
  FOREIGN KEY (org_id, user_id, conversation_id) REFERENCES chat.conversation (org_id, user_id, id) ON DELETE CASCADE,
  CONSTRAINT run_ends_or_is_leased CHECK ((status = 'running') = (ended_at IS NULL) AND (ended_at IS NULL) = (lease_expires_at IS NOT NULL))
);

-- Begins with the conversation, not the organization: before the first ANALYZE the planner would take it for as good as the primary key when it
-- looks for an id, and read all runs of an organization.
CREATE INDEX run_by_conversation ON chat.run (conversation_id, user_id, org_id);
CREATE UNIQUE INDEX run_by_client_message_id ON chat.run (org_id, conversation_id, client_message_id)
  WHERE client_message_id IS NOT NULL;

CREATE TABLE chat.message (
  org_id uuid NOT NULL,
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  conversation_id uuid NOT NULL,
  run_id uuid NOT NULL,
  -- Messages form a tree; NULL for a first one.
  parent_id uuid,
  -- Order of arrival in the conversation, from 1. Not the time: instances' clocks disagree.
  position bigint NOT NULL,
  role text NOT NULL CHECK (role IN ('user', 'assistant')),
  state text NOT NULL CHECK (state IN ('complete', 'partial', 'cancelled', 'failed', 'interrupted')),
  model text NOT NULL DEFAULT '',
  -- [{"type": "text" | "reasoning", "text": …}, …]
  parts jsonb NOT NULL,
  -- Size of the visible text in UTF-8, by which history is measured.
  text_bytes bigint NOT NULL,
  -- {"input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cost_usd", "estimated"}
  usage jsonb,
  created_at timestamptz NOT NULL,
  PRIMARY KEY (org_id, id),
  -- In this order for the same reason as run_by_conversation.
  UNIQUE (conversation_id, position, org_id),
  FOREIGN KEY (org_id, user_id, conversation_id) REFERENCES chat.conversation (org_id, user_id, id) ON DELETE CASCADE
);

ALTER TABLE chat.conversation ENABLE ROW LEVEL SECURITY;
ALTER TABLE chat.conversation FORCE ROW LEVEL SECURITY;
ALTER TABLE chat.message ENABLE ROW LEVEL SECURITY;
ALTER TABLE chat.message FORCE ROW LEVEL SECURITY;
ALTER TABLE chat.run ENABLE ROW LEVEL SECURITY;
ALTER TABLE chat.run FORCE ROW LEVEL SECURITY;

-- The sub-selects are evaluated once a statement, not once a row. A setting that was set in an earlier transaction reads as '', not as NULL.
CREATE POLICY conversation_is_the_callers ON chat.conversation USING (
  org_id = (SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'org')::uuid)
  AND user_id = (SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid)
);
CREATE POLICY message_is_the_callers ON chat.message USING (
  org_id = (SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'org')::uuid)
  AND user_id = (SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid)
);
CREATE POLICY run_is_the_callers ON chat.run USING (
  org_id = (SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'org')::uuid)
  AND user_id = (SELECT (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid)
);

-- No more than the service does: whose a row is and what it hangs on never change, and messages and runs go with their conversation alone.
GRANT USAGE ON SCHEMA chat TO parley_data;
GRANT SELECT, INSERT, DELETE ON chat.conversation TO parley_data;
GRANT UPDATE (title, head_message_id, last_position, updated_at) ON chat.conversation TO parley_data;
GRANT SELECT, INSERT ON chat.message TO parley_data;
GRANT UPDATE (state, model, parts, text_bytes, usage) ON chat.message TO parley_data;
GRANT SELECT, INSERT ON chat.run TO parley_data;
GRANT UPDATE (model, status, error_reason, owner, lease_expires_at, fence, last_seq, ended_at) ON chat.run TO parley_data;
