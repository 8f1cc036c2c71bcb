// What the page knows, and how each thing that happens changes it. Pure: same state and action, same result.
import type { Problem } from "../api/problem";
import type { Conversation, RunEvent, WireMessage } from "../api/types";
import { applyEvent, fromWire, localMessage, type Message, restart, visibleText } from "./message";

/** The thread of a conversation that has no id yet. */
export const NEW_THREAD = "new";

export type Thread = {
  /** Stays the same while a new conversation gets its id. */
  viewKey: string;
  status: "loading" | "ready" | "failed";
  problem: Problem | null;
  messages: Message[];
  /** Leads to older messages; "" when there are none. */
  olderToken: string;
  loadingOlder: boolean;
  active: { answerKey: string; runId: string | null; connection: "open" | "waiting"; stopping: boolean } | null;
};

export type ChatState = {
  list: { items: Conversation[]; nextToken: string; status: "loading" | "ready" | "failed"; problem: Problem | null };
  threads: Record<string, Thread>;
  /** Read out by screen readers; `count` tells two equal sentences apart. */
  announcement: { text: string; count: number };
};

export type ChatAction =
  | { type: "list_loading" }
  | { type: "list_loaded"; items: Conversation[]; nextToken: string; append: boolean }
  | { type: "list_failed"; problem: Problem }
  | { type: "conversation_changed"; conversation: Conversation }
  | { type: "conversation_learned"; conversation: Conversation }
  | { type: "conversation_touched"; id: string; at: string }
  | { type: "conversation_removed"; id: string }
  | { type: "thread_loading"; thread: string; viewKey: string }
  | { type: "thread_loaded"; thread: string; messages: WireMessage[]; olderToken: string }
  | { type: "thread_failed"; thread: string; problem: Problem }
  | { type: "older_loading"; thread: string }
  | { type: "older_loaded"; thread: string; messages: WireMessage[]; olderToken: string }
  | { type: "older_failed"; thread: string }
  | { type: "thread_started"; viewKey: string }
  | { type: "thread_adopted"; conversation: Conversation }
  | { type: "message_sent"; thread: string; text: string; clientMessageId: string; answerKey: string }
  | { type: "message_unsent"; thread: string; clientMessageId: string; problem: Problem }
  | { type: "message_discarded"; thread: string; clientMessageId: string }
  | { type: "run_watched"; thread: string; answerKey: string; runId: string }
  | { type: "run_events"; thread: string; answerKey: string; events: RunEvent[]; at: number }
  | { type: "run_replayed"; thread: string; answerKey: string }
  | { type: "run_connection"; thread: string; connection: "open" | "waiting" }
  | { type: "run_stopping"; thread: string; stopping: boolean }
  | { type: "run_left"; thread: string; problem: Problem | null }
  | { type: "answer_problem"; thread: string; answerKey: string; problem: Problem }
  | { type: "answer_model"; thread: string; answerKey: string; model: string }
  | { type: "answer_left"; thread: string; answerKey: string; problem: Problem }
  | { type: "announced"; text: string };

export const INITIAL: ChatState = {
  list: { items: [], nextToken: "", status: "loading", problem: null },
  threads: {},
  announcement: { text: "", count: 0 },
};

export function reduce(state: ChatState, action: ChatAction): ChatState {
  switch (action.type) {
    case "list_loading":
      return { ...state, list: { ...state.list, status: "loading", problem: null } };
    case "list_loaded": {
      const part = action.append
        ? { items: mergeById(state.list.items, action.items), nextToken: action.nextToken }
        : refreshed(state.list, action.items, action.nextToken);
      return { ...state, list: { ...part, status: "ready", problem: null } };
    }
    case "list_failed":
      return { ...state, list: { ...state.list, status: "failed", problem: action.problem } };
    case "conversation_changed":
      return { ...state, list: { ...state.list, items: upsert(state.list.items, action.conversation) } };
    case "conversation_learned": {
      const items = upsert(state.list.items, action.conversation);
      items.sort((a, b) => (a.updated_at < b.updated_at ? 1 : a.updated_at > b.updated_at ? -1 : 0));
      return { ...state, list: { ...state.list, items } };
    }
    case "conversation_touched": {
      const known = state.list.items.find((item) => item.id === action.id);
      if (!known) return state;
      const touched = { ...known, updated_at: action.at };
      const others = state.list.items.filter((item) => item.id !== action.id);
      return { ...state, list: { ...state.list, items: [touched, ...others] } };
    }
    case "conversation_removed": {
      const { [action.id]: _gone, ...threads } = state.threads;
      const items = state.list.items.filter((item) => item.id !== action.id);
      return { ...state, threads, list: { ...state.list, items } };
    }
    case "thread_started":
      return withThread(state, NEW_THREAD, { ...emptyThread(action.viewKey), status: "ready" });
    case "thread_adopted": {
      const { [NEW_THREAD]: draft, ...threads } = state.threads;
      if (!draft) return state;
      const items = upsert(state.list.items, action.conversation);
      return { ...state, list: { ...state.list, items }, threads: { ...threads, [action.conversation.id]: draft } };
    }
    case "thread_loading": {
      const known = state.threads[action.thread];
      const thread = known
        ? { ...known, status: known.messages.length > 0 ? known.status : ("loading" as const) }
        : emptyThread(action.viewKey);
      return withThread(state, action.thread, { ...thread, problem: null });
    }
    case "announced":
      return { ...state, announcement: { text: action.text, count: state.announcement.count + 1 } };
    default: {
      const thread = state.threads[action.thread];
      return thread ? withThread(state, action.thread, reduceThread(thread, action)) : state;
    }
  }
}

type ThreadAction = Exclude<
  ChatAction,
  {
    type:
      | `list_${string}`
      | `conversation_${string}`
      | "thread_started"
      | "thread_adopted"
      | "thread_loading"
      | "announced";
  }
>;

function reduceThread(thread: Thread, action: ThreadAction): Thread {
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
    case "message_sent": {
      const user = localMessage(action.clientMessageId, "user", {
        text: action.text,
        clientMessageId: action.clientMessageId,
      });
      const answer = localMessage(action.answerKey, "assistant", {});
      const rest = thread.messages.filter((message) => message.clientMessageId !== action.clientMessageId);
      const active = { answerKey: action.answerKey, runId: null, connection: "open" as const, stopping: false };
      return { ...thread, messages: [...rest, user, answer], active };
    }
    case "message_unsent": {
      const answerKey = thread.active?.answerKey;
      const messages = thread.messages
        .filter((message) => message.key !== answerKey)
        .map((message) =>
          message.clientMessageId === action.clientMessageId
            ? { ...message, state: "unsent" as const, problem: action.problem }
            : message,
        );
      return { ...thread, messages, active: null };
    }
    case "message_discarded":
      return {
        ...thread,
        messages: thread.messages.filter((message) => message.clientMessageId !== action.clientMessageId),
      };
    case "run_watched": {
      const active = { answerKey: action.answerKey, runId: action.runId, connection: "open" as const, stopping: false };
      return { ...thread, active, messages: change(thread.messages, action.answerKey, restart) };
    }
    case "run_replayed":
      return { ...thread, messages: change(thread.messages, action.answerKey, restart) };
    case "run_events":
      return action.events.reduce((current, event) => reduceEvent(current, action, event), thread);
    case "run_connection":
      return thread.active ? { ...thread, active: { ...thread.active, connection: action.connection } } : thread;
    case "run_stopping":
      return thread.active ? { ...thread, active: { ...thread.active, stopping: action.stopping } } : thread;
    case "run_left": {
      if (!thread.active) return thread;
      const messages = change(thread.messages, thread.active.answerKey, (answer) => ({
        ...answer,
        text: visibleText(answer),
        floor: null,
        state: answer.state === "streaming" || answer.state === "sending" ? "interrupted" : answer.state,
        problem: action.problem ?? answer.problem,
      }));
      return { ...thread, messages, active: null };
    }
    case "answer_left": {
      const left = { state: "interrupted" as const, problem: action.problem };
      return { ...thread, messages: change(thread.messages, action.answerKey, (answer) => ({ ...answer, ...left })) };
    }
    case "answer_model":
      return {
        ...thread,
        messages: change(thread.messages, action.answerKey, (answer) => ({ ...answer, model: action.model })),
      };
    case "answer_problem":
      return {
        ...thread,
        messages: change(thread.messages, action.answerKey, (answer) => ({ ...answer, problem: action.problem })),
      };
  }
}

function reduceEvent(thread: Thread, { answerKey, at }: { answerKey: string; at: number }, event: RunEvent): Thread {
  const answer = thread.messages.find((message) => message.key === answerKey);
  if (!answer || event.seq <= answer.lastSeq) return thread;
  let messages = change(thread.messages, answerKey, (message) => applyEvent(message, event, at));
  let active = thread.active;
  if (event.name === "run") {
    if (active) active = { ...active, runId: event.run_id };
    // A page loaded in the meantime may hold these two already.
    const ids = [event.message_id, event.user_message_id];
    messages = messages.filter(
      ({ id, key, clientMessageId }) => key === answerKey || clientMessageId || !ids.includes(id ?? ""),
    );
    messages = markSent(messages, answerKey, event.user_message_id, event.run_id);
  } else if (event.name === "user_message") messages = markSent(messages, answerKey, event.message_id, event.run_id);
  else if (event.name === "done" || event.name === "error") active = null;
  return { ...thread, messages, active };
}

/** The user's message that this answer answers now has the server's id. */
function markSent(messages: Message[], answerKey: string, id: string, runId: string): Message[] {
  const index = messages.findIndex((message) => message.key === answerKey) - 1;
  const user = messages[index];
  if (user?.role !== "user") return messages;
  return change(messages, user.key, (message) => ({ ...message, id, runId, state: "complete", problem: null }));
}

function emptyThread(viewKey: string): Thread {
  const thread = { viewKey, status: "loading" as const, problem: null, messages: [], olderToken: "" };
  return { ...thread, loadingOlder: false, active: null };
}

/** The newest page from the server over what is known: older messages and unsent ones stay, keys stay. */
function mergePage(thread: Thread, page: WireMessage[], olderToken: string): Pick<Thread, "messages" | "olderToken"> {
  const known = new Map(thread.messages.map((message) => [message.id, message]));
  const fresh = page.map((wire) => {
    const before = known.get(wire.id);
    if (before && (before.key === thread.active?.answerKey || isSame(before, wire))) return before;
    const message = fromWire(wire, before?.key);
    return { ...message, problem: message.state === "failed" ? (before?.problem ?? null) : null };
  });
  const inPage = new Set<string | null>(page.map((wire) => wire.id));
  const first = thread.messages.findIndex((message) => message.id !== null && inPage.has(message.id));
  const older = first > 0 ? thread.messages.slice(0, first) : [];
  const local = thread.messages.filter((message) => message.id === null);
  return {
    messages: [...older.filter((message) => message.id !== null), ...fresh, ...local],
    olderToken: older.length > 0 ? thread.olderToken : olderToken,
  };
}

function isSame(message: Message, wire: WireMessage): boolean {
  const state = message.state === "limited" ? "complete" : message.state;
  return state === wire.state && message.text === wire.content;
}

/** A fresh first page over a list that may be longer: what lies behind the page stays, and so does the way to more. */
function refreshed(
  list: ChatState["list"],
  page: Conversation[],
  nextToken: string,
): Pick<ChatState["list"], "items" | "nextToken"> {
  const last = page.at(-1);
  if (nextToken === "" || last === undefined) return { items: page, nextToken };
  const behind = list.items.filter(
    (item) => item.updated_at < last.updated_at && !page.some(({ id }) => id === item.id),
  );
  return { items: [...page, ...behind], nextToken: behind.length > 0 ? list.nextToken : nextToken };
}

function mergeById(known: Conversation[], more: Conversation[]): Conversation[] {
  const ids = new Set(known.map((item) => item.id));
  return [...known, ...more.filter((item) => !ids.has(item.id))];
}

function upsert(items: Conversation[], conversation: Conversation): Conversation[] {
  const index = items.findIndex((item) => item.id === conversation.id);
  if (index < 0) return [conversation, ...items];
  return items.map((item) => (item.id === conversation.id ? conversation : item));
}

function change(messages: Message[], key: string, by: (message: Message) => Message): Message[] {
  return messages.map((message) => (message.key === key ? by(message) : message));
}

function withThread(state: ChatState, id: string, thread: Thread): ChatState {
  return { ...state, threads: { ...state.threads, [id]: thread } };
}
