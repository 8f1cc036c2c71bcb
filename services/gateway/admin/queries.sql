-- name: read_version
-- Tells whether anything has changed.
SELECT version FROM gateway.registry;

-- name: read_registry
-- Returns the version and the defaults.
SELECT version, default_provider, default_embeddings, default_alias FROM gateway.registry;

-- name: lock_registry
-- Lets one change at a time, in all instances together.
SELECT version FROM gateway.registry FOR UPDATE;

-- name: change_registry
-- Stores the defaults and says that something has changed.
UPDATE gateway.registry
SET version = version + 1, default_provider = $1, default_embeddings = $2, default_alias = $3
RETURNING version;

-- name: list_providers
-- Returns all providers.
SELECT
  name, type, base_url, settings, secrets, secrets_key_id, models, default_model, embedding_model,
  first_token_timeout_s, gap_timeout_s, total_timeout_s, enabled, created_at, updated_at
FROM gateway.provider
ORDER BY name;

-- name: put_provider
-- Adds a provider or replaces it.
INSERT INTO gateway.provider (
  name, type, base_url, settings, secrets, secrets_key_id, models, default_model, embedding_model,
  first_token_timeout_s, gap_timeout_s, total_timeout_s, enabled, created_at, updated_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (name) DO UPDATE SET
  type = EXCLUDED.type, base_url = EXCLUDED.base_url, settings = EXCLUDED.settings, secrets = EXCLUDED.secrets,
  secrets_key_id = EXCLUDED.secrets_key_id, models = EXCLUDED.models, default_model = EXCLUDED.default_model,
  embedding_model = EXCLUDED.embedding_model, first_token_timeout_s = EXCLUDED.first_token_timeout_s,
  gap_timeout_s = EXCLUDED.gap_timeout_s, total_timeout_s = EXCLUDED.total_timeout_s, enabled = EXCLUDED.enabled,
  updated_at = EXCLUDED.updated_at;

-- name: delete_provider
-- Removes a provider.
DELETE FROM gateway.provider WHERE name = $1;

-- name: list_aliases
-- Returns all aliases.
SELECT name, targets, first_token_timeout_s, gap_timeout_s, total_timeout_s FROM gateway.alias ORDER BY name;

-- name: put_alias
-- Adds an alias or replaces it.
INSERT INTO gateway.alias (name, targets, first_token_timeout_s, gap_timeout_s, total_timeout_s)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET
  targets = EXCLUDED.targets, first_token_timeout_s = EXCLUDED.first_token_timeout_s,
  gap_timeout_s = EXCLUDED.gap_timeout_s, total_timeout_s = EXCLUDED.total_timeout_s;

-- name: delete_alias
-- Removes an alias.
DELETE FROM gateway.alias WHERE name = $1;
