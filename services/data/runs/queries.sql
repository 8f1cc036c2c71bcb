-- Runs with their messages. What begins, stores and ends them is a function each, defined in the migrations.

-- name: begin_run
-- Starts a run, or finds the one a resend belongs to; a row for each message, oldest first, the user's last. History is what was visible.
SELECT
  outcome, existing, conversation_created,
  (run).id AS "run.id", (run).conversation_id AS "run.conversation_id", (run).user_message_id AS "run.user_message_id",
  (run).answer_message_id AS "run.answer_message_id", (run).client_message_id AS "run.client_message_id",
  (run).model AS "run.model", (run).status AS "run.status", (run).error_reason AS "run.error_reason",
  (run).owner AS "run.owner", (run).lease_expires_at AS "run.lease_expires_at", (run).fence AS "run.fence",
  (run).last_seq AS "run.last_seq", (run).created_at AS "run.created_at", (run).ended_at AS "run.ended_at",
  (message).id, (message).conversation_id, (message).run_id, (message).parent_id, (message).position, (message).role,
  (message).state, (message).model, jsonb_path_query_array((message).parts, '$[*] ? (@.type == "text")') AS parts,
  (message).usage, (message).created_at
FROM chat.begin_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ORDER BY (message).position;

-- name: checkpoint_run
-- Stores what is visible of a running answer and renews the lease.
SELECT outcome FROM chat.checkpoint_run($1, $2, $3, $4, $5, $6, $7) AS outcome;

-- name: finish_run
-- Ends a run and stores its answer.
SELECT
  outcome,
  (run).id AS "run.id", (run).conversation_id AS "run.conversation_id", (run).user_message_id AS "run.user_message_id",
  (run).answer_message_id AS "run.answer_message_id", (run).client_message_id AS "run.client_message_id",
  (run).model AS "run.model", (run).status AS "run.status", (run).error_reason AS "run.error_reason",
  (run).owner AS "run.owner", (run).lease_expires_at AS "run.lease_expires_at", (run).fence AS "run.fence",
  (run).last_seq AS "run.last_seq", (run).created_at AS "run.created_at", (run).ended_at AS "run.ended_at"
FROM chat.finish_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: find_run
-- A run with its user message and its answer, a row each, in that order.
SELECT
  run.id AS "run.id", run.conversation_id AS "run.conversation_id", run.user_message_id AS "run.user_message_id",
  run.answer_message_id AS "run.answer_message_id", run.client_message_id AS "run.client_message_id",
  run.model AS "run.model", run.status AS "run.status", run.error_reason AS "run.error_reason",
  run.owner AS "run.owner", run.lease_expires_at AS "run.lease_expires_at", run.fence AS "run.fence",
  run.last_seq AS "run.last_seq", run.created_at AS "run.created_at", run.ended_at AS "run.ended_at",
  message.id, message.conversation_id, message.run_id, message.parent_id, message.position, message.role,
  message.state, message.model, message.parts, message.usage, message.created_at
FROM chat.run
JOIN chat.message ON message.org_id = run.org_id AND message.id IN (run.user_message_id, run.answer_message_id)
WHERE run.id = $1
ORDER BY message.position;

-- name: probe_schema
-- Fails until the schema is as this code needs it.
SELECT 'chat.begin_run'::regproc::oid, 'chat.checkpoint_run'::regproc::oid, 'chat.finish_run'::regproc::oid;
