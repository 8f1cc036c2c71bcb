// What a turn makes of the messages in view before the server has said anything.
import { localMessage, type Message } from "./message";
import type { Turn } from "./turn";

/** The messages of the branch that the turn goes on from, without what it takes the place of. */
export function before(messages: Message[], turn: Turn): Message[] {
  const rest = messages.filter((message) => message.clientMessageId !== turn.clientMessageId);
  if (turn.kind === "new") return rest;
  const index = rest.findIndex((message) => message.id === turn.target);
  return index < 0 ? rest : rest.slice(0, index);
}

/** The messages with those of the turn at their end, as they are until the server has answered. */
export function withTurn(messages: Message[], turn: Turn, answerKey: string): Message[] {
  const target = turn.kind === "new" ? undefined : messages.find((message) => message.id === turn.target);
  // Asked for once more: what it takes the place of has been out of view since the first time.
  const earlier = messages.find((message) => message.clientMessageId === turn.clientMessageId);
  const siblings = target
    ? target.siblings.length > 0
      ? target.siblings
      : [target.id ?? ""]
    : (earlier?.siblings ?? []);
  const own = { clientMessageId: turn.clientMessageId, turn, siblings };
  const rest = before(messages, turn);
  if (turn.kind === "new" || turn.kind === "edit") {
    const user = localMessage(turn.clientMessageId, "user", { text: turn.text, ...own });
    return [...rest, user, localMessage(answerKey, "assistant", {})];
  }
  // What is kept stays in view until the log has said it again.
  const kept = target ? { text: target.text, marks: target.marks } : (earlier?.floor ?? null);
  const floor = turn.kind === "continue" ? kept : null;
  return [...rest, localMessage(answerKey, "assistant", { floor, ...own })];
}
