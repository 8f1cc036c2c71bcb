-- Putting a conversation on another of its branches.

CREATE FUNCTION chat.select_branch(p_claims text, p_conversation_id uuid, p_message_id uuid)
RETURNS TABLE (outcome text, conversation chat.conversation)
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  v_org_id uuid := p_claims::jsonb ->> 'org';
  v_conversation chat.conversation;
  v_newest_id uuid;
  v_position bigint;
  v_below boolean[];
  v_later record;
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  SELECT * INTO v_conversation FROM chat.conversation WHERE org_id = v_org_id AND id = p_conversation_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'conversation_not_found', NULL::chat.conversation;
    RETURN;
  END IF;
  SELECT id, position INTO v_newest_id, v_position FROM chat.message
  WHERE org_id = v_org_id AND id = p_message_id AND conversation_id = p_conversation_id;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'message_not_found', NULL::chat.conversation;
    RETURN;
  END IF;
  -- A message comes after what it follows, so that one pass in order finds all that are below; the last one is the newest.
  v_below[v_position] := true;
  FOR v_later IN
    SELECT message.id, message.position, parent.position AS parent_position
    FROM chat.message
    JOIN chat.message AS parent ON parent.conversation_id = p_conversation_id AND parent.id = message.parent_id
    WHERE message.conversation_id = p_conversation_id AND message.position > v_position
    ORDER BY message.position
  LOOP
    IF v_below[v_later.parent_position] THEN
      v_below[v_later.position] := true;
      v_newest_id := v_later.id;
    END IF;
  END LOOP;
  UPDATE chat.conversation SET head_message_id = v_newest_id WHERE org_id = v_org_id AND id = p_conversation_id
  RETURNING * INTO v_conversation;
  RETURN QUERY SELECT 'selected', v_conversation;
END
$$;

REVOKE EXECUTE ON FUNCTION chat.select_branch FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.select_branch TO parley_data;
