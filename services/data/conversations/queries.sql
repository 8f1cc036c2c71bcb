-- Conversations and the messages in them. Row-level security adds whose they are to every statement.

-- name: create_conversation
-- Stores an empty conversation.
INSERT INTO chat.conversation (org_id, user_id, id, title, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $5)
RETURNING id, title, created_at, updated_at;

-- name: find_conversation
-- One conversation.
SELECT id, title, created_at, updated_at FROM chat.conversation WHERE id = $1;

-- name: list_conversations
-- The most recently active conversations after a place in the list; from its top where $1 and $2 are NULL.
SELECT id, title, created_at, updated_at
FROM chat.conversation
WHERE (updated_at, id) < (coalesce($1, 'infinity'::timestamptz), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
ORDER BY updated_at DESC, id DESC
LIMIT $3;

-- name: rename_conversation
-- Gives a conversation another title, which counts as activity.
UPDATE chat.conversation SET title = $2, updated_at = greatest(updated_at, $3)
WHERE id = $1
RETURNING id, title, created_at, updated_at;

-- name: delete_conversation
-- Deletes a conversation; its runs and messages go with it.
DELETE FROM chat.conversation WHERE id = $1 RETURNING id;

-- name: list_messages
-- The newest messages of a conversation before a position, newest first; one row without a message where there are none, no row where there is no conversation.
SELECT
  message.id, message.conversation_id, message.run_id, message.parent_id, message.position, message.role, message.state,
  message.model, message.parts, message.usage, message.created_at
FROM chat.conversation
LEFT JOIN LATERAL (
  SELECT
    id, conversation_id, run_id, parent_id, position, role, state, model, parts, usage, created_at
  FROM chat.message
  WHERE org_id = conversation.org_id AND conversation_id = conversation.id AND position < coalesce($2, 9223372036854775807)
  ORDER BY position DESC
  LIMIT $3
) AS message ON true
WHERE conversation.id = $1
ORDER BY message.position DESC;
