-- Users, organizations, sessions and the keys that sign access tokens.

-- The service's login role. It owns nothing; whoever runs the system lets it log in. Roles are the cluster's, so that another
-- database's migration may have made it, even at this moment.
DO $$
BEGIN
  CREATE ROLE parley_auth NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL;
END
$$;

CREATE SCHEMA auth;

CREATE TABLE auth.user_account (
  id uuid PRIMARY KEY,
  -- Trimmed and lower-cased by the service.
  email text NOT NULL CONSTRAINT user_account_email_key UNIQUE CHECK (char_length(email) <= 254),
  password_hash text NOT NULL,
  created_at timestamptz NOT NULL,
  last_sign_in_at timestamptz NOT NULL
);

CREATE TABLE auth.organization (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  -- The user whose personal organization this is; null for a shared one.
  personal_of uuid UNIQUE REFERENCES auth.user_account ON DELETE CASCADE,
  created_at timestamptz NOT NULL
);

CREATE TABLE auth.membership (
  org_id uuid NOT NULL REFERENCES auth.organization ON DELETE CASCADE,
  user_id uuid NOT NULL REFERENCES auth.user_account ON DELETE CASCADE,
  role text NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
  created_at timestamptz NOT NULL,
  PRIMARY KEY (org_id, user_id)
);
CREATE INDEX membership_user_id ON auth.membership (user_id);

CREATE TABLE auth.session (
  id uuid PRIMARY KEY,
  org_id uuid NOT NULL,
  user_id uuid NOT NULL,
  created_at timestamptz NOT NULL,
  refreshed_at timestamptz NOT NULL,
  revoked_at timestamptz,
  -- Whoever leaves an organization leaves the sessions in it.
  FOREIGN KEY (org_id, user_id) REFERENCES auth.membership ON DELETE CASCADE
);
CREATE INDEX session_org_id_user_id ON auth.session (org_id, user_id);
CREATE INDEX session_refreshed_at ON auth.session (refreshed_at);
CREATE INDEX session_revoked_at ON auth.session (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE auth.refresh_token (
  -- Only the hash: what is stored here opens nothing.
  sha256 bytea PRIMARY KEY CHECK (octet_length(sha256) = 32),
  session_id uuid NOT NULL REFERENCES auth.session ON DELETE CASCADE,
  issued_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  -- Spent tokens stay until they would have expired, so that a late reuse is recognized.
  spent_at timestamptz
);
CREATE INDEX refresh_token_session_id ON auth.refresh_token (session_id);
CREATE INDEX refresh_token_expires_at ON auth.refresh_token (expires_at);

CREATE TABLE auth.signing_key (
  kid text PRIMARY KEY,
  -- AES-256-GCM under the service's encryption key: 12 bytes nonce, then ciphertext and tag; the kid is authenticated with it.
  private_key bytea NOT NULL,
  public_jwk jsonb NOT NULL,
  created_at timestamptz NOT NULL,
  -- Signs from then on, until a younger key does.
  activates_at timestamptz NOT NULL,
  -- Leaves the published set then, when the last token it signed has ended; null while it has no successor.
  retires_at timestamptz
);

-- Counters of attempts. Unlogged: after a crash of the database they begin anew, which costs nobody anything.
CREATE UNLOGGED TABLE auth.throttle (
  kind text NOT NULL CHECK (kind IN ('account', 'address', 'sign_up')),
  -- SHA-256 of the e-mail address or network, so that addresses without an account are not kept.
  key bytea NOT NULL,
  attempts integer NOT NULL,
  window_ends_at timestamptz NOT NULL,
  blocked_until timestamptz,
  PRIMARY KEY (kind, key)
);
CREATE INDEX throttle_window_ends_at ON auth.throttle (window_ends_at);

GRANT USAGE ON SCHEMA auth TO parley_auth;
GRANT SELECT, INSERT ON auth.organization, auth.membership TO parley_auth;
GRANT SELECT, INSERT, UPDATE ON auth.user_account TO parley_auth;
GRANT SELECT, INSERT, UPDATE, DELETE ON auth.session, auth.refresh_token, auth.signing_key, auth.throttle TO parley_auth;
