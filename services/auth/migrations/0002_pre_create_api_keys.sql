-- Keys with which programs act for users.

CREATE TABLE auth.api_key (
  id uuid PRIMARY KEY,
  org_id uuid NOT NULL,
  user_id uuid NOT NULL,
  name text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
  -- The beginning of the key, for its owner's eyes: it opens nothing.
  prefix text NOT NULL CHECK (char_length(prefix) <= 12),
  -- Only the hash of the whole.
  sha256 bytea NOT NULL UNIQUE CHECK (octet_length(sha256) = 32),
  scopes text[] NOT NULL CHECK (scopes <> '{}' AND scopes <@ ARRAY['models', 'chat', 'admin']),
  created_at timestamptz NOT NULL,
  -- Null: it does not end by itself.
  expires_at timestamptz,
  -- To the minute, so that a busy key does not write all the time.
  last_used_at timestamptz,
  revoked_at timestamptz,
  -- Whoever leaves an organization leaves the keys in it.
  FOREIGN KEY (org_id, user_id) REFERENCES auth.membership ON DELETE CASCADE
);
CREATE INDEX api_key_org_id_user_id_id ON auth.api_key (org_id, user_id, id);
CREATE INDEX api_key_ended_at ON auth.api_key (LEAST(revoked_at, expires_at)) WHERE revoked_at IS NOT NULL OR expires_at IS NOT NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON auth.api_key TO parley_auth;
