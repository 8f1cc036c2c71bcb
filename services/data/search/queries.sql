-- Search. Row-level security adds whose rows they are to every statement.

-- name: bound_search
-- Ends the statements of this transaction that take too long.
SELECT set_config('statement_timeout', '5s', true) AS bound;

-- name: search_conversations
-- Conversations with all words ($1) in the title or in one message, the best first: words side by side ($2) before words apart, titles before messages, then the most recently active; after a place in the list where $3 to $5 are given.
SELECT
  conversation.id, conversation.title, conversation.head_message_id, conversation.created_at, conversation.updated_at,
  said.id AS message_id, coalesce(said.text, conversation.title) AS text, rank.score
FROM chat.conversation
LEFT JOIN LATERAL (
  SELECT message.id, spoken.text, spoken.text ILIKE $2 AS is_together
  FROM chat.message
  CROSS JOIN LATERAL (
    SELECT string_agg(part.value ->> 'text', '') AS text
    FROM jsonb_array_elements(message.parts) AS part
    WHERE part.value ->> 'type' = 'text'
  ) AS spoken
  WHERE message.org_id = conversation.org_id AND message.conversation_id = conversation.id AND message.text_bytes > 0
    AND spoken.text ILIKE ALL ($1::text[])
  ORDER BY is_together DESC, message.position DESC
  LIMIT 1
) AS said ON NOT conversation.title ILIKE ALL ($1::text[])
CROSS JOIN LATERAL (
  SELECT CASE WHEN said.id IS NULL THEN 2 ELSE 0 END
    + CASE WHEN coalesce(said.is_together, conversation.title ILIKE $2) THEN 1 ELSE 0 END AS score
) AS rank
WHERE (said.id IS NOT NULL OR conversation.title ILIKE ALL ($1::text[]))
  AND (rank.score, conversation.updated_at, conversation.id) < (
    coalesce($3::integer, 9), coalesce($4, 'infinity'::timestamptz), coalesce($5, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
  )
ORDER BY rank.score DESC, conversation.updated_at DESC, conversation.id DESC
LIMIT $6;
