-- Providers of models and the names that stand for models.

-- The service's login role. It owns nothing; whoever runs the system lets it log in. Roles are the cluster's, so that another
-- database's migration may have made it, even at this moment.
DO $$
BEGIN
  CREATE ROLE parley_gateway NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
  NULL;
END
$$;

CREATE SCHEMA gateway;

-- One row. Whatever changes what names stand for raises the version in the same transaction; instances look for that.
CREATE TABLE gateway.registry (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version bigint NOT NULL,
  -- Names and no references: the environment's providers may be the default, too. Empty: none.
  default_provider text NOT NULL,
  default_embeddings text NOT NULL,
  default_alias text NOT NULL
);
INSERT INTO gateway.registry (version, default_provider, default_embeddings, default_alias) VALUES (1, '', '', '');

CREATE TABLE gateway.provider (
  name text PRIMARY KEY CONSTRAINT provider_name_form CHECK (name ~ '^[a-z0-9-]{1,64}$'),
  type text NOT NULL,
  base_url text NOT NULL,
  -- Those that are no secrets.
  settings jsonb NOT NULL,
  -- The API key and the settings that are secrets, or the references to them, as JSON under AES-256-GCM: 12 bytes nonce, then
  -- ciphertext and tag; the name is authenticated with it.
  secrets bytea NOT NULL,
  -- Which of the encryption keys.
  secrets_key_id text NOT NULL,
  models text[] NOT NULL,
  default_model text NOT NULL,
  embedding_model text NOT NULL,
  -- Seconds; 0: the gateway's own.
  first_token_timeout_s double precision NOT NULL,
  gap_timeout_s double precision NOT NULL,
  total_timeout_s double precision NOT NULL,
  enabled boolean NOT NULL,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL
);

CREATE TABLE gateway.alias (
  name text PRIMARY KEY CONSTRAINT alias_name_form CHECK (name ~ '^[a-z0-9._-]{1,64}$'),
  -- [{"model": …, "weight": …, "rank": …}, …] as they were given.
  targets jsonb NOT NULL,
  first_token_timeout_s double precision NOT NULL,
  gap_timeout_s double precision NOT NULL,
  total_timeout_s double precision NOT NULL
);

GRANT USAGE ON SCHEMA gateway TO parley_gateway;
GRANT SELECT, UPDATE ON gateway.registry TO parley_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON gateway.provider, gateway.alias TO parley_gateway;
