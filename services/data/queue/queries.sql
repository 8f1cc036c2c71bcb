-- Runs that nobody owns, and those that were given up: functions that look across tenants, defined in the migrations.

-- name: end_forsaken_runs
-- Ends runs that too many owners have left behind; the answer is how many.
SELECT ended FROM chat.end_forsaken_runs($1, $2, $3) AS ended;

-- name: claim_runs
-- Takes runs that nobody owns; the last row, without a run, says when the next one becomes due.
SELECT
  kind, previous_owner, org_id, user_id, begun_as, next_due_at,
  id AS "run.id", conversation_id AS "run.conversation_id", user_message_id AS "run.user_message_id",
  answer_message_id AS "run.answer_message_id", client_message_id AS "run.client_message_id", model AS "run.model",
  response_model AS "run.response_model", status AS "run.status", error_reason AS "run.error_reason",
  owner AS "run.owner", lease_expires_at AS "run.lease_expires_at", fence AS "run.fence", last_seq AS "run.last_seq",
  created_at AS "run.created_at", ended_at AS "run.ended_at",
  cancel_requested_at IS NOT NULL AS "run.cancel_requested", tries AS "run.tries", max_tries AS "run.max_tries",
  takeovers AS "run.takeovers"
FROM chat.claim_runs_and_roles($1, $2, $3, $4, $5, $6, $7);

-- name: list_dead_letters
-- The newest dead letters that the caller may see after a place in the list; from its top where $2 and $3 are NULL.
SELECT
  user_id, dead_lettered_at,
  id AS "run.id", conversation_id AS "run.conversation_id", user_message_id AS "run.user_message_id",
  answer_message_id AS "run.answer_message_id", client_message_id AS "run.client_message_id", model AS "run.model",
  response_model AS "run.response_model", status AS "run.status", error_reason AS "run.error_reason",
  owner AS "run.owner", lease_expires_at AS "run.lease_expires_at", fence AS "run.fence", last_seq AS "run.last_seq",
  created_at AS "run.created_at", ended_at AS "run.ended_at",
  cancel_requested_at IS NOT NULL AS "run.cancel_requested", tries AS "run.tries", max_tries AS "run.max_tries",
  takeovers AS "run.takeovers"
FROM chat.list_dead_letters($1, $2, $3, $4);

-- name: retry_dead_letter
-- Puts a dead letter back into the queue; no row where there is none that the caller may touch.
SELECT
  id AS "run.id", conversation_id AS "run.conversation_id", user_message_id AS "run.user_message_id",
  answer_message_id AS "run.answer_message_id", client_message_id AS "run.client_message_id", model AS "run.model",
  response_model AS "run.response_model", status AS "run.status", error_reason AS "run.error_reason",
  owner AS "run.owner", lease_expires_at AS "run.lease_expires_at", fence AS "run.fence", last_seq AS "run.last_seq",
  created_at AS "run.created_at", ended_at AS "run.ended_at",
  cancel_requested_at IS NOT NULL AS "run.cancel_requested", tries AS "run.tries", max_tries AS "run.max_tries",
  takeovers AS "run.takeovers"
FROM chat.retry_dead_letter($1, $2);

-- name: drop_dead_letter
-- Takes a dead letter off the list; no row where there is none that the caller may touch.
SELECT id FROM chat.drop_dead_letter($1, $2) AS id;
