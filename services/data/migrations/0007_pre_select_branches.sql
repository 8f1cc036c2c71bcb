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
BEGIN
  PERFORM set_config('request.jwt.claims', p_claims, true);
  SELECT * INTO v_conversation FROM chat.conversation WHERE org_id = v_org_id AND id = p_conversation_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN QUERY SELECT 'conversation_not_found', NULL::chat.conversation;
    RETURN;
  END IF;
  WITH RECURSIVE later AS MATERIALIZED (
    SELECT id, parent_id, position FROM chat.message WHERE org_id = v_org_id AND conversation_id = p_conversation_id
  ), below AS (
    SELECT id, position FROM later WHERE id = p_message_id
    UNION ALL
    SELECT later.id, later.position FROM below JOIN later ON later.parent_id = below.id
  )
  SELECT id INTO v_newest_id FROM below ORDER BY position DESC LIMIT 1;
  IF v_newest_id IS NULL THEN
    RETURN QUERY SELECT 'message_not_found', NULL::chat.conversation;
    RETURN;
  END IF;
  UPDATE chat.conversation SET head_message_id = v_newest_id WHERE org_id = v_org_id AND id = p_conversation_id
  RETURNING * INTO v_conversation;
  RETURN QUERY SELECT 'selected', v_conversation;
END
$$;

REVOKE EXECUTE ON FUNCTION chat.select_branch FROM PUBLIC;
GRANT EXECUTE ON FUNCTION chat.select_branch TO parley_data;
