-- name: count_attempt
-- Counts an attempt under a row lock, unless the key has to wait; answers the end of the wait there was before.
INSERT INTO auth.throttle AS t (kind, key, attempts, window_ends_at, blocked_until)
SELECT
  $1, $2, 1,
  $3::timestamptz + $5::interval,
  CASE WHEN $4::integer <= 1 THEN $3::timestamptz + $6::interval END
ON CONFLICT (kind, key) DO UPDATE SET (attempts, window_ends_at, blocked_until) = (
  SELECT counted.attempts, GREATEST(counted.window_ends_at, waits.until + $8::interval), waits.until
  FROM (
    SELECT
      CASE WHEN t.blocked_until > $3 THEN t.attempts WHEN t.window_ends_at <= $3 THEN 1 ELSE t.attempts + 1 END AS attempts,
      CASE WHEN t.blocked_until > $3 OR t.window_ends_at > $3 THEN t.window_ends_at ELSE $3 + $5::interval END AS window_ends_at
  ) AS counted
  CROSS JOIN LATERAL (
    SELECT CASE
      WHEN t.blocked_until > $3 THEN t.blocked_until
      WHEN counted.attempts >= $4 THEN $3 + LEAST($7::interval, $6::interval * power(2, LEAST(counted.attempts - $4, 30)))
    END AS until
  ) AS waits
)
RETURNING CASE WHEN old.blocked_until > $3 THEN old.blocked_until END AS blocked_until;

-- name: forgive_attempt
-- Takes one attempt back, and the wait where it was this attempt that reached the limit.
UPDATE auth.throttle
SET attempts = GREATEST(attempts - 1, 0), blocked_until = CASE WHEN attempts - 1 >= $3::integer THEN blocked_until END
WHERE kind = $1 AND key = $2;

-- name: forget_attempts
-- Forgets a key's attempts.
DELETE FROM auth.throttle WHERE kind = $1 AND key = $2;

-- name: add_user
-- Stores a user, their personal organization, whose owner they are, and a first session.
WITH added_user AS (
  INSERT INTO auth.user_account (id, email, password_hash, created_at, last_sign_in_at) VALUES ($1, $2, $3, $4, $4)
), added_organization AS (
  INSERT INTO auth.organization (id, name, personal_of, created_at) VALUES ($5, 'Personal', $1, $4)
), added_membership AS (
  INSERT INTO auth.membership (org_id, user_id, role, created_at) VALUES ($5, $1, $6, $4)
), added_session AS (
  INSERT INTO auth.session (id, org_id, user_id, created_at, refreshed_at) VALUES ($7, $5, $1, $4, $4)
)
INSERT INTO auth.refresh_token (sha256, session_id, issued_at, expires_at) VALUES ($8, $7, $4, $9);

-- name: find_account
-- Finds an account by e-mail address, in the user's personal organization.
SELECT u.id, u.email, m.org_id, m.role, u.created_at, u.last_sign_in_at, u.operator, u.password_hash
FROM auth.user_account AS u
JOIN auth.organization AS o ON o.personal_of = u.id
JOIN auth.membership AS m ON m.org_id = o.id AND m.user_id = u.id
WHERE u.email = $1;

-- name: add_session
-- Stores a session and the moment of sign-in, and the new hash of the same password where there is one.
WITH signed_in AS (
  UPDATE auth.user_account SET last_sign_in_at = $4, password_hash = COALESCE($7::text, password_hash) WHERE id = $3
), added_session AS (
  INSERT INTO auth.session (id, org_id, user_id, created_at, refreshed_at) VALUES ($1, $2, $3, $4, $4)
)
INSERT INTO auth.refresh_token (sha256, session_id, issued_at, expires_at) VALUES ($5, $1, $4, $6);

-- name: lock_refresh_token
-- Locks a refresh token and its session, and shows the user as they are now.
SELECT
  t.session_id, t.expires_at, t.spent_at, s.revoked_at IS NOT NULL AS session_revoked,
  u.id, u.email, m.org_id, m.role, u.created_at, u.last_sign_in_at, u.operator
FROM auth.refresh_token AS t
JOIN auth.session AS s ON s.id = t.session_id
JOIN auth.membership AS m ON m.org_id = s.org_id AND m.user_id = s.user_id
JOIN auth.user_account AS u ON u.id = s.user_id
WHERE t.sha256 = $1
FOR NO KEY UPDATE OF t, s;

-- name: rotate_refresh_token
-- Marks a refresh token as spent, unless it is already, and stores its successor.
WITH spent AS (
  UPDATE auth.refresh_token SET spent_at = COALESCE(spent_at, $4) WHERE sha256 = $1
), refreshed AS (
  UPDATE auth.session SET refreshed_at = $4 WHERE id = $3
)
INSERT INTO auth.refresh_token (sha256, session_id, issued_at, expires_at) VALUES ($2, $3, $4, $5);

-- name: revoke_session
-- Revokes a session; the first revocation stands.
UPDATE auth.session SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL;

-- name: find_user
-- Finds a user as a member of an organization.
SELECT u.id, u.email, m.org_id, m.role, u.created_at, u.last_sign_in_at
FROM auth.user_account AS u
JOIN auth.membership AS m ON m.user_id = u.id
WHERE u.id = $1 AND m.org_id = $2;

-- name: set_operator
-- Makes a user an operator of the platform, or none.
UPDATE auth.user_account SET operator = $2 WHERE email = $1 RETURNING id;

-- name: find_open_session
-- Finds whose session it is, unless it was revoked.
SELECT u.id, u.email, m.org_id, m.role, u.created_at, u.last_sign_in_at
FROM auth.session AS s
JOIN auth.membership AS m ON m.org_id = s.org_id AND m.user_id = s.user_id
JOIN auth.user_account AS u ON u.id = s.user_id
WHERE s.id = $1 AND s.user_id = $2 AND s.revoked_at IS NULL;

-- name: lock_api_keys
-- Lets one transaction at a time add to a user's API keys.
SELECT pg_advisory_xact_lock(hashtextextended('auth.api_key:' || $1::uuid || ':' || $2::uuid, 0));

-- name: add_api_key
-- Stores an API key, unless its user has as many that work as anybody may, or has left; returns whether it was stored and whether they are there.
WITH member AS (
  SELECT org_id, user_id FROM auth.membership WHERE org_id = $2 AND user_id = $3
), working AS (
  SELECT count(*) AS number FROM auth.api_key
  WHERE org_id = $2 AND user_id = $3 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $8)
), added AS (
  INSERT INTO auth.api_key (id, org_id, user_id, name, prefix, sha256, scopes, created_at, expires_at)
  SELECT $1, member.org_id, member.user_id, $4, $5, $6, $7, $8, $9
  FROM member, working
  WHERE working.number < $10::integer
  RETURNING 1
)
SELECT EXISTS (SELECT FROM added) AS added, EXISTS (SELECT FROM member) AS member;

-- name: list_api_keys
-- Lists a user's API keys in an organization, youngest first, below an id.
SELECT id, name, prefix, scopes, created_at, expires_at, last_used_at, revoked_at
FROM auth.api_key
WHERE org_id = $1 AND user_id = $2 AND ($3::uuid IS NULL OR id < $3)
ORDER BY id DESC
LIMIT $4;

-- name: revoke_api_key
-- Revokes an API key of a user's; the first revocation stands.
UPDATE auth.api_key SET revoked_at = COALESCE(revoked_at, $4)
WHERE id = $1 AND org_id = $2 AND user_id = $3
RETURNING id, name, prefix, scopes, created_at, expires_at, last_used_at, revoked_at;

-- name: use_api_key
-- Finds whose a working API key is and what it is good for, and notes to the minute that it was used.
WITH working AS (
  SELECT id, org_id, user_id, scopes, expires_at FROM auth.api_key
  WHERE sha256 = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
), noted AS (
  UPDATE auth.api_key AS k SET last_used_at = date_trunc('minute', $2::timestamptz)
  FROM working
  WHERE k.id = working.id AND (k.last_used_at IS NULL OR k.last_used_at < date_trunc('minute', $2::timestamptz))
)
SELECT k.id AS key_id, k.scopes, k.expires_at, u.id, u.email, m.org_id, m.role, u.created_at, u.last_sign_in_at
FROM working AS k
JOIN auth.membership AS m ON m.org_id = k.org_id AND m.user_id = k.user_id
JOIN auth.user_account AS u ON u.id = k.user_id;

-- name: find_working_api_key
-- Finds whose a working API key is and what it is good for, by its id.
SELECT k.id AS key_id, k.scopes, k.expires_at, u.id, u.email, m.org_id, m.role, u.created_at, u.last_sign_in_at
FROM auth.api_key AS k
JOIN auth.membership AS m ON m.org_id = k.org_id AND m.user_id = k.user_id
JOIN auth.user_account AS u ON u.id = k.user_id
WHERE k.id = $1 AND k.user_id = $2 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $3);

-- name: lock_signing_keys
-- Lets one transaction at a time change the signing keys.
SELECT pg_advisory_xact_lock(hashtextextended('auth.signing_key', 0));

-- name: list_signing_keys
-- Lists the signing keys, youngest first.
SELECT kid, private_key, public_jwk::text AS public_jwk, created_at, activates_at, retires_at
FROM auth.signing_key
ORDER BY activates_at DESC;

-- name: add_signing_key
-- Stores a signing key and says when those without a successor leave the published set.
WITH retiring AS (
  UPDATE auth.signing_key SET retires_at = $6 WHERE retires_at IS NULL
)
INSERT INTO auth.signing_key (kid, private_key, public_jwk, created_at, activates_at) VALUES ($1, $2, $3::jsonb, $4, $5);

-- name: remove_refresh_tokens
-- Removes a batch of refresh tokens that have expired.
WITH removed AS (
  DELETE FROM auth.refresh_token
  WHERE sha256 IN (SELECT sha256 FROM auth.refresh_token WHERE expires_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
  RETURNING 1
)
SELECT count(*)::integer AS removed FROM removed;

-- name: remove_sessions
-- Removes a batch of sessions, with their refresh tokens, that were revoked or last refreshed so long ago that nothing of them lives.
WITH removed AS (
  DELETE FROM auth.session
  WHERE id IN (
    SELECT id FROM auth.session WHERE revoked_at < $1 OR refreshed_at < $2 LIMIT $3 FOR UPDATE SKIP LOCKED
  )
  RETURNING 1
)
SELECT count(*)::integer AS removed FROM removed;

-- name: remove_attempts
-- Removes a batch of counters that no longer count.
WITH removed AS (
  DELETE FROM auth.throttle
  WHERE (kind, key) IN (
    SELECT kind, key FROM auth.throttle
    WHERE window_ends_at < $1 AND (blocked_until IS NULL OR blocked_until < $1)
    LIMIT $2 FOR UPDATE SKIP LOCKED
  )
  RETURNING 1
)
SELECT count(*)::integer AS removed FROM removed;

-- name: remove_api_keys
-- Removes a batch of API keys that ended so long ago that nobody asks for them any more.
WITH removed AS (
  DELETE FROM auth.api_key
  WHERE id IN (
    SELECT id FROM auth.api_key
    WHERE LEAST(revoked_at, expires_at) < $1 AND (revoked_at IS NOT NULL OR expires_at IS NOT NULL)
    LIMIT $2 FOR UPDATE SKIP LOCKED
  )
  RETURNING 1
)
SELECT count(*)::integer AS removed FROM removed;

-- name: remove_signing_keys
-- Removes signing keys that have left the published set; returns how many.
WITH removed AS (
  DELETE FROM auth.signing_key WHERE retires_at < $1 RETURNING 1
)
SELECT count(*)::integer AS removed FROM removed;
