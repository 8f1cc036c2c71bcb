-- Conversations and the messages in them. Row-level security adds whose they are to every statement.

-- name: create_conversation
-- Stores an empty conversation.
INSERT INTO chat.conversation (org_id, user_id, id, title, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $5)
RETURNING id, title, head_message_id, created_at, updated_at;

-- name: find_conversation
-- One conversation.
SELECT id, title, head_message_id, created_at, updated_at FROM chat.conversation WHERE id = $1;

-- name: list_conversations
-- The most recently active conversations after a place in the list; from its top where $1 and $2 are NULL.
SELECT id, title, head_message_id, created_at, updated_at
FROM chat.conversation
WHERE (updated_at, id) < (coalesce($1, 'infinity'::timestamptz), coalesce($2, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid))
ORDER BY updated_at DESC, id DESC
LIMIT $3;

-- name: rename_conversation
-- Gives a conversation another title, which counts as activity; with $4 only where it has none.
UPDATE chat.conversation
SET title = CASE WHEN $4 AND title <> '' THEN title ELSE $2 END,
  updated_at = CASE WHEN $4 AND title <> '' THEN updated_at ELSE greatest(updated_at, $3) END
WHERE id = $1
RETURNING id, title, head_message_id, created_at, updated_at;

-- name: delete_conversation
-- Deletes a conversation; its runs and messages go with it.
DELETE FROM chat.conversation WHERE id = $1 RETURNING id;

-- name: select_branch
-- Puts a conversation on the branch that a message is on.
SELECT
  outcome, (conversation).id, (conversation).title, (conversation).head_message_id, (conversation).created_at,
  (conversation).updated_at
FROM chat.select_branch($1, $2, $3);

-- name: list_messages
-- Messages of a branch, newest first, from $2 or, where that is NULL, from the conversation's head on; one row without a message where there are none, no row where there is no conversation.
WITH RECURSIVE opened AS MATERIALIZED (
  SELECT org_id, id, branched, coalesce($2, head_message_id) AS from_id FROM chat.conversation WHERE id = $1
), branch AS (
  SELECT
    message.org_id, message.id, message.conversation_id, message.run_id, message.parent_id, message.position, message.role,
    message.state, message.model, message.parts, message.usage, message.created_at, 1 AS place
  FROM opened
  JOIN chat.message ON message.org_id = opened.org_id AND message.id = opened.from_id AND message.conversation_id = opened.id
  UNION ALL
  SELECT
    message.org_id, message.id, message.conversation_id, message.run_id, message.parent_id, message.position, message.role,
    message.state, message.model, message.parts, message.usage, message.created_at, place + 1
  FROM branch
  JOIN chat.message ON message.org_id = branch.org_id AND message.id = branch.parent_id
  WHERE place < $3
), siblings AS (
  -- Looked for only where there are any.
  SELECT coalesce(message.parent_id, message.conversation_id) AS place, array_agg(message.id ORDER BY message.position) AS ids
  FROM chat.message
  WHERE message.conversation_id = $1 AND (SELECT branched FROM opened)
  GROUP BY 1
)
SELECT
  branch.id, branch.conversation_id, branch.run_id, branch.parent_id, branch.position, branch.role, branch.state, branch.model,
  branch.parts, branch.usage, branch.created_at, coalesce(siblings.ids, ARRAY[branch.id])::text[] AS sibling_ids
FROM opened
LEFT JOIN branch ON true
LEFT JOIN siblings ON siblings.place = coalesce(branch.parent_id, branch.conversation_id)
ORDER BY branch.position DESC;
