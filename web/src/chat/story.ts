// What tests of the page's state are told with: stored messages, events of a run, and the actions of a turn.
import { problemOf } from "../api/problem";
import type { Conversation, RunEvent, WireMessage } from "../api/types";
import type { Message } from "./message";
import { type ChatAction, type ChatState, INITIAL, reduce } from "./state";
import type { Turn } from "./turn";

export const RUN = "r1";
export const AT = 1_000_000;

export const conversation = (id: string, updated = "2026-01-01T00:00:00Z", title = id): Conversation => ({
  ...{ id, title, created_at: updated, updated_at: updated },
});

export function wire(
  id: string,
  role: "user" | "assistant",
  content: string,
  more: Partial<WireMessage> = {},
): WireMessage {
  return {
    ...{ id, conversation_id: "c1", run_id: RUN, role, content, parts: [], state: "complete", model: "" },
    ...{ usage: null, created_at: "2026-01-01T00:00:00Z", sibling_ids: [id] },
    ...more,
  };
}

export function reduced(actions: ChatAction[], from: ChatState = INITIAL): ChatState {
  return actions.reduce(reduce, from);
}

/** Events with their place in the run's log, from `first`. */
export function log(events: Record<string, unknown>[], first = 1): RunEvent[] {
  return events.map((event, i) => ({ run_id: RUN, seq: first + i, ...event }) as RunEvent);
}

export const began = { kind: "run", conversation_id: "c1", message_id: "a1", user_message_id: "u1", model: "demo" };
export const said = { kind: "user_message", message_id: "u1", content: "hi", created_at: "2026-01-01T00:00:00Z" };
export const text = (delta: string, offset: number) => ({ kind: "text", delta, offset });
export const done = (status: string) => ({ kind: "done", status, message_id: "a1" });

export const open: ChatAction[] = [
  { type: "thread_loading", thread: "c1", viewKey: "v1" },
  { type: "thread_loaded", thread: "c1", messages: [], olderToken: "" },
];
export const turn = { kind: "new", text: "hi", clientMessageId: "m1" } satisfies Turn;
export const send = { type: "turn_sent", thread: "c1", turn, answerKey: "k1", queued: false } satisfies ChatAction;
export const unsent: ChatAction = {
  ...{ type: "turn_unsent", thread: "c1", turn, answerKey: "k1", problem: problemOf("network") },
};
export const events = (list: RunEvent[]): ChatAction => ({
  type: "run_events",
  thread: "c1",
  answerKey: "k1",
  events: list,
  at: AT,
});

export function messages(state: ChatState, thread = "c1"): Message[] {
  return state.threads[thread]?.messages ?? [];
}

export function answerAfter(list: RunEvent[]): Message {
  const answer = messages(reduced([...open, send, events(list)])).at(-1);
  if (!answer) throw new Error("no answer");
  return answer;
}
