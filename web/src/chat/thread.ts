// The messages of one conversation and how each thing that happens changes them. Pure.
import type { Connection } from "../api/connection";
import type { Problem } from "../api/problem";
import type { RunEvent, WireMessage } from "../api/types";
import { before, withTurn } from "./branch";
import { applyEnd, applyEvent, fromWire, isLive, leave, type Message, restart, resume, withSelf } from "./message";
import type { Turn } from "./turn";

export type Thread = {
  /** Stays the same while a new conversation gets its id. */
  viewKey: string;
  status: "loading" | "ready" | "failed";
  problem: Problem | null;
  /** Of the branch that the conversation is on. */
  messages: Message[];
  /** Leads to older messages; "" when there are none. */
  olderToken: string;
  loadingOlder: boolean;
};

export type ThreadAction = { thread: string } & (
  | { type: "thread_loaded"; messages: WireMessage[]; olderToken: string }
  | { type: "thread_failed"; problem: Problem }
  | { type: "older_loading" }
  | { type: "older_loaded"; messages: WireMessage[]; olderToken: string }
  | { type: "older_failed" }
  | { type: "turn_sent"; turn: Turn; answerKey: string; queued: boolean }
  | { type: "turn_unsent"; turn: Turn; answerKey: string; problem: Problem }
  | { type: "turn_discarded"; turn: Turn }
  | { type: "run_events"; answerKey: string; events: RunEvent[]; at: number }
  | { type: "run_replayed"; answerKey: string }
  | { type: "run_resumed"; answerKey: string }
  | { type: "run_queued"; answerKey: string }
  | { type: "run_connection"; answerKey: string; connection: Connection }
  | { type: "run_stopping"; answerKey: string; stopping: boolean }
  | { type: "run_left"; answerKey: string; problem: Problem | null }
  | { type: "answer_problem"; answerKey: string; problem: Problem }
);

export function emptyThread(viewKey: string): Thread {
  return { viewKey, status: "loading", problem: null, messages: [], olderToken: "", loadingOlder: false };
}

/** The answer that Stop stops: the one being written, else the one that waits. */
export function activeAnswer(thread: Thread | undefined): Message | undefined {
  const live = thread?.messages.filter(isLive) ?? [];
  return live.find((answer) => answer.state !== "queued") ?? live[0];
}

export function reduceThread(thread: Thread, action: ThreadAction): Thread {
  switch (action.type) {
    case "thread_loaded":
      return { ...thread, status: "ready", problem: null, ...mergePage(thread, action.messages, action.olderToken) };
    case "thread_failed":
      return { ...thread, status: thread.messages.length > 0 ? "ready" : "failed", problem: action.problem };
    case "older_loading":
      return { ...thread, loadingOlder: true };
    case "older_loaded": {
      const known = new Set(thread.messages.map((message) => message.id));
      const older = action.messages.filter((message) => !known.has(message.id)).map((message) => fromWire(message));
      return {
        ...thread,
        loadingOlder: false,
        olderToken: action.olderToken,
        messages: [...older, ...thread.messages],
      };
    }
    case "older_failed":
      return { ...thread, loadingOlder: false };
    case "turn_sent": {
      const messages = withTurn(thread.messages, action.turn, action.answerKey);
      const queued = (answer: Message): Message => ({ ...answer, state: "queued" });
      return { ...thread, messages: action.queued ? change(messages, action.answerKey, queued) : messages };
    }
    case "turn_unsent": {
      const unsent = { state: "unsent" as const, problem: action.problem };
      const messages = thread.messages
        .filter((message) => message.key !== action.answerKey || message.turn !== null)
        .map((message) =>
          message.clientMessageId === action.turn.clientMessageId ? { ...message, ...unsent } : message,
        );
      return { ...thread, messages };
    }
    case "turn_discarded": {
      const { clientMessageId } = action.turn;
      return { ...thread, messages: thread.messages.filter((message) => message.clientMessageId !== clientMessageId) };
    }
    case "run_events":
      return action.events.reduce((current, event) => reduceEvent(current, action, event), thread);
    case "run_replayed":
      return changed(thread, action.answerKey, restart);
    case "run_resumed":
      return changed(thread, action.answerKey, resume);
    case "run_queued":
      return changed(thread, action.answerKey, (answer) =>
        isLive(answer) && !answer.begun ? { ...answer, state: "queued" } : answer,
      );
    case "run_connection":
      return changed(thread, action.answerKey, (answer) => ({ ...answer, connection: action.connection }));
    case "run_stopping":
      return changed(thread, action.answerKey, (answer) => ({ ...answer, stopping: action.stopping }));
    case "run_left":
      return changed(thread, action.answerKey, (answer) => leave(answer, action.problem));
    case "answer_problem":
      return changed(thread, action.answerKey, (answer) => ({ ...answer, problem: action.problem }));
  }
}

function reduceEvent(thread: Thread, { answerKey, at }: { answerKey: string; at: number }, event: RunEvent): Thread {
  const answer = thread.messages.find((message) => message.key === answerKey);
  if (!answer) return thread;
  if (!isLive(answer)) return changed(thread, answerKey, (message) => applyEnd(message, event, at));
  if (event.seq <= answer.lastSeq) return thread;
  let messages = change(thread.messages, answerKey, (message) => applyEvent(message, event, at));
  if (event.kind === "run") {
    messages = withoutDoubles(messages, answerKey, event.message_id, event.user_message_id);
    messages = markSent(messages, answerKey, event.user_message_id, event.run_id);
  } else if (event.kind === "user_message") messages = markSent(messages, answerKey, event.message_id, event.run_id);
  return { ...thread, messages };
}

/** A page loaded in the meantime may hold the messages of a turn of our own already. */
function withoutDoubles(messages: Message[], answerKey: string, answerId: string, userId: string): Message[] {
  const own = messages[messages.findIndex((message) => message.key === answerKey) - 1];
  return messages.filter((message) => {
    if (message.key === answerKey || message === own) return true;
    return message.id !== answerId && !(own?.clientMessageId && message.id === userId);
  });
}

/** The user's message that this answer answers now has the server's id. */
function markSent(messages: Message[], answerKey: string, id: string, runId: string): Message[] {
  const user = messages[messages.findIndex((message) => message.key === answerKey) - 1];
  if (user?.role !== "user" || user.id === id) return messages;
  return change(messages, user.key, (message) => ({
    ...{ ...message, id, runId, state: "complete", problem: null },
    siblings: withSelf(message.siblings, id),
  }));
}

/** The newest page from the server over what is known: older messages and unsent ones stay, keys stay. */
function mergePage(thread: Thread, page: WireMessage[], olderToken: string): Pick<Thread, "messages" | "olderToken"> {
  const known = new Map(thread.messages.map((message) => [message.id, message]));
  const fresh = page.map((wire) => {
    const same = known.get(wire.id);
    if (same && isSame(same, wire)) return withSiblings(same, wire.sibling_ids ?? []);
    const message = fromWire(wire, same?.key);
    return { ...message, problem: message.state === "failed" ? (same?.problem ?? null) : null };
  });
  const inPage = new Set<string | null>(page.map((wire) => wire.id));
  const first = thread.messages.findIndex((message) => message.id !== null && inPage.has(message.id));
  const older = first > 0 ? thread.messages.slice(0, first).filter((message) => message.id !== null) : [];
  let messages = [...older, ...fresh];
  for (const own of ownTurns(thread.messages, inPage)) {
    const turn = own[0]?.turn;
    if (turn) messages = [...before(messages, turn), ...own];
  }
  return { messages, olderToken: older.length > 0 ? thread.olderToken : olderToken };
}

/** The messages of each turn of our own that the page does not know: not sent, or sent after the page was read. */
function ownTurns(messages: Message[], inPage: Set<string | null>): Message[][] {
  const turns: Message[][] = [];
  for (const message of messages) {
    if (inPage.has(message.id)) continue;
    if (message.turn) turns.push([message]);
    else if (message.id === null || isLive(message)) turns.at(-1)?.push(message);
  }
  return turns.filter((turn) => turn.some((message) => message.id === null || isLive(message)));
}

/** What is being written here, or was until its end, is further than what is stored; but a stored end is the end. */
function isSame(message: Message, wire: WireMessage): boolean {
  if (wire.state === "partial") return isLive(message) || message.lastSeq > 0;
  const state = message.state === "limited" ? "complete" : message.state;
  return state === wire.state && message.text === wire.content;
}

function withSiblings(message: Message, siblings: string[]): Message {
  if (siblings.join() === message.siblings.join()) return message;
  return { ...message, siblings };
}

function changed(thread: Thread, key: string, by: (message: Message) => Message): Thread {
  return { ...thread, messages: change(thread.messages, key, by) };
}

function change(messages: Message[], key: string, by: (message: Message) => Message): Message[] {
  return messages.map((message) => (message.key === key ? by(message) : message));
}
