-- Runs with their messages. What begins, stores and ends them is a function each, defined in the migrations.

-- name: begin_run_at_head
-- Starts a run whose message follows the newest one, while nothing is in its way: one row, of NULLs where `start_run` has to look closer.
SELECT lease_expires_at, untitled, parent_id, last_position, history_roles, history_parts::text[] AS history_parts
FROM chat.begin_run_at_head(
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22
);

-- name: start_run
-- Starts a run, or finds the one a resend belongs to: a row for the run, its two messages, runs asked to stop, then history, newest first.
SELECT
  item, existing, conversation_created, untitled,
  (run).id AS "run.id", (run).conversation_id AS "run.conversation_id",
  (run).user_message_id AS "run.user_message_id", (run).answer_message_id AS "run.answer_message_id",
  (run).client_message_id AS "run.client_message_id", (run).model AS "run.model",
  (run).response_model AS "run.response_model", (run).status AS "run.status",
  (run).error_reason AS "run.error_reason", (run).owner AS "run.owner",
  (run).lease_expires_at AS "run.lease_expires_at", (run).fence AS "run.fence", (run).last_seq AS "run.last_seq",
  (run).created_at AS "run.created_at", (run).ended_at AS "run.ended_at",
  (run).cancel_requested_at IS NOT NULL AS "run.cancel_requested", (run).tries AS "run.tries",
  (run).max_tries AS "run.max_tries", (run).takeovers AS "run.takeovers",
  (message).id, (message).conversation_id, (message).run_id, (message).parent_id, (message).position, (message).role,
  (message).state, (message).model, CASE item WHEN 'history' THEN
    jsonb_path_query_array((message).parts, '$[*] ? (@.type != "reasoning")') ELSE (message).parts END AS parts,
  (message).usage, (message).created_at, limit_type, limit_current, limit_most, limit_resets_at
FROM chat.start_run_in_pace(
  $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27
);

-- name: load_run
-- A claimed run: a row for the run, its two messages, then history, newest first.
SELECT
  item, false AS existing, false AS conversation_created, untitled,
  (run).id AS "run.id", (run).conversation_id AS "run.conversation_id",
  (run).user_message_id AS "run.user_message_id", (run).answer_message_id AS "run.answer_message_id",
  (run).client_message_id AS "run.client_message_id", (run).model AS "run.model",
  (run).response_model AS "run.response_model", (run).status AS "run.status",
  (run).error_reason AS "run.error_reason", (run).owner AS "run.owner",
  (run).lease_expires_at AS "run.lease_expires_at", (run).fence AS "run.fence", (run).last_seq AS "run.last_seq",
  (run).created_at AS "run.created_at", (run).ended_at AS "run.ended_at",
  (run).cancel_requested_at IS NOT NULL AS "run.cancel_requested", (run).tries AS "run.tries",
  (run).max_tries AS "run.max_tries", (run).takeovers AS "run.takeovers",
  (message).id, (message).conversation_id, (message).run_id, (message).parent_id, (message).position, (message).role,
  (message).state, (message).model, CASE item WHEN 'history' THEN
    jsonb_path_query_array((message).parts, '$[*] ? (@.type != "reasoning")') ELSE (message).parts END AS parts,
  (message).usage, (message).created_at
FROM chat.load_run($1, $2, $3, $4, $5);

-- name: checkpoint_run
-- Stores what is visible of a running answer and renews the lease.
SELECT outcome, cancel_requested FROM chat.keep_run($1, $2, $3, $4, $5, $6, $7, $8);

-- name: checkpoint_runs
-- Stores what is visible of many running answers and renews their leases: a row, with its place in the arrays, for each that was stored.
-- All arrays are of texts: for each other kind the driver would ask every new connection what it is, in a statement that takes both of them
-- more time and memory than all others.
SELECT place, cancel_requested
FROM chat.keep_runs(
  $1, $2::text[]::uuid[], $3::text[]::bigint[], $4::text[]::jsonb[], $5::text[]::bigint[], $6::text[]::jsonb[],
  $7::text[]::bigint[], $8::text[]::interval[]
);

-- name: release_run
-- Stores what is visible of a running answer and gives the run back.
SELECT outcome FROM chat.give_run_back($1, $2, $3, $4, $5, $6, $7) AS outcome;

-- name: retry_run
-- Puts a failed try back into the queue, or ends the run after its last one.
SELECT
  outcome,
  (run).id AS "run.id", (run).conversation_id AS "run.conversation_id",
  (run).user_message_id AS "run.user_message_id", (run).answer_message_id AS "run.answer_message_id",
  (run).client_message_id AS "run.client_message_id", (run).model AS "run.model",
  (run).response_model AS "run.response_model", (run).status AS "run.status",
  (run).error_reason AS "run.error_reason", (run).owner AS "run.owner",
  (run).lease_expires_at AS "run.lease_expires_at", (run).fence AS "run.fence", (run).last_seq AS "run.last_seq",
  (run).created_at AS "run.created_at", (run).ended_at AS "run.ended_at",
  (run).cancel_requested_at IS NOT NULL AS "run.cancel_requested", (run).tries AS "run.tries",
  (run).max_tries AS "run.max_tries", (run).takeovers AS "run.takeovers"
FROM chat.retry_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: finish_run
-- Ends a run and stores its answer.
SELECT
  outcome,
  (run).id AS "run.id", (run).conversation_id AS "run.conversation_id",
  (run).user_message_id AS "run.user_message_id", (run).answer_message_id AS "run.answer_message_id",
  (run).client_message_id AS "run.client_message_id", (run).model AS "run.model",
  (run).response_model AS "run.response_model", (run).status AS "run.status",
  (run).error_reason AS "run.error_reason", (run).owner AS "run.owner",
  (run).lease_expires_at AS "run.lease_expires_at", (run).fence AS "run.fence", (run).last_seq AS "run.last_seq",
  (run).created_at AS "run.created_at", (run).ended_at AS "run.ended_at",
  (run).cancel_requested_at IS NOT NULL AS "run.cancel_requested", (run).tries AS "run.tries",
  (run).max_tries AS "run.max_tries", (run).takeovers AS "run.takeovers"
FROM chat.end_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: cancel_run
-- Stores the wish to stop a run, and ends it where nobody owns it; a row of NULLs where there is no such run.
SELECT
  run.id AS "run.id", run.conversation_id AS "run.conversation_id", run.user_message_id AS "run.user_message_id",
  run.answer_message_id AS "run.answer_message_id", run.client_message_id AS "run.client_message_id",
  run.model AS "run.model", run.response_model AS "run.response_model", run.status AS "run.status",
  run.error_reason AS "run.error_reason", run.owner AS "run.owner", run.lease_expires_at AS "run.lease_expires_at",
  run.fence AS "run.fence", run.last_seq AS "run.last_seq", run.created_at AS "run.created_at",
  run.ended_at AS "run.ended_at", run.cancel_requested_at IS NOT NULL AS "run.cancel_requested",
  run.tries AS "run.tries", run.max_tries AS "run.max_tries", run.takeovers AS "run.takeovers"
FROM chat.cancel_run($1, $2, $3) AS run;

-- name: find_run
-- A run with its user message and its answer, a row each, in that order.
SELECT
  run.id AS "run.id", run.conversation_id AS "run.conversation_id", run.user_message_id AS "run.user_message_id",
  run.answer_message_id AS "run.answer_message_id", run.client_message_id AS "run.client_message_id",
  run.model AS "run.model", run.response_model AS "run.response_model", run.status AS "run.status",
  run.error_reason AS "run.error_reason", run.owner AS "run.owner", run.lease_expires_at AS "run.lease_expires_at",
  run.fence AS "run.fence", run.last_seq AS "run.last_seq", run.created_at AS "run.created_at",
  run.ended_at AS "run.ended_at", run.cancel_requested_at IS NOT NULL AS "run.cancel_requested",
  run.tries AS "run.tries", run.max_tries AS "run.max_tries", run.takeovers AS "run.takeovers",
  message.id, message.conversation_id, message.run_id, message.parent_id, message.position, message.role,
  message.state, message.model, message.parts, message.usage, message.created_at
FROM chat.run
JOIN chat.message ON message.org_id = run.org_id AND message.id IN (run.user_message_id, run.answer_message_id)
WHERE run.id = $1
ORDER BY message.position;

-- name: list_runs
-- Runs of a conversation after one of them, or all where $2 is NULL; a row without a run where there are none, no row where there is no conversation.
SELECT
  $2::uuid IS NOT NULL AND earlier.id IS NULL AS after_is_unknown,
  run.id AS "run.id", run.conversation_id AS "run.conversation_id", run.user_message_id AS "run.user_message_id",
  run.answer_message_id AS "run.answer_message_id", run.client_message_id AS "run.client_message_id",
  run.model AS "run.model", run.response_model AS "run.response_model", run.status AS "run.status",
  run.error_reason AS "run.error_reason", run.owner AS "run.owner", run.lease_expires_at AS "run.lease_expires_at",
  run.fence AS "run.fence", run.last_seq AS "run.last_seq", run.created_at AS "run.created_at",
  run.ended_at AS "run.ended_at", run.cancel_requested_at IS NOT NULL AS "run.cancel_requested",
  run.tries AS "run.tries", run.max_tries AS "run.max_tries", run.takeovers AS "run.takeovers"
FROM chat.conversation
LEFT JOIN chat.run AS earlier
  ON earlier.org_id = conversation.org_id AND earlier.id = $2 AND earlier.conversation_id = conversation.id
LEFT JOIN LATERAL (
  SELECT
    id, conversation_id, user_message_id, answer_message_id, client_message_id, model, response_model, status, error_reason, owner,
    lease_expires_at, fence, last_seq, created_at, ended_at, cancel_requested_at, tries, max_tries, takeovers, position
  FROM chat.run
  WHERE org_id = conversation.org_id AND conversation_id = conversation.id AND position > coalesce(earlier.position, -1)
    AND ($2 IS NULL OR earlier.id IS NOT NULL) AND (ended_at IS NULL OR NOT $3)
  ORDER BY position, id
  LIMIT $4
) AS run ON true
WHERE conversation.id = $1
ORDER BY run.position, run.id;

-- name: probe_schema
-- Fails until the schema is as this code needs it.
SELECT
  'chat.begin_run_at_head'::regproc::oid, 'chat.start_run_in_pace'::regproc::oid, 'chat.load_run'::regproc::oid,
  'chat.keep_run'::regproc::oid, 'chat.keep_runs'::regproc::oid, 'chat.give_run_back'::regproc::oid,
  'chat.retry_run'::regproc::oid, 'chat.end_run'::regproc::oid, 'chat.cancel_run'::regproc::oid, 'chat.claim_runs_and_roles'::regproc::oid,
  'chat.list_dead_letters'::regproc::oid, 'chat.retry_dead_letter'::regproc::oid, 'chat.drop_dead_letter'::regproc::oid,
  'chat.end_forsaken_runs'::regproc::oid, 'chat.select_branch'::regproc::oid;
