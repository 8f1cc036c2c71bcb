// What the page knows, and how each thing that happens changes it. Pure: same state and action, same result.
import type { Problem } from "../api/problem";
import type { Budget, Conversation, Found } from "../api/types";
import { emptyThread, reduceThread, type Thread, type ThreadAction } from "./thread";

/** The thread of a conversation that has no id yet. */
export const NEW_THREAD = "new";

export type Listing<T> = {
  items: T[];
  nextToken: string;
  status: "loading" | "ready" | "failed";
  problem: Problem | null;
};

export type ChatState = {
  list: Listing<Conversation>;
  /** What the words in the search field have found; null while there are none. */
  search: (Listing<Found> & { words: string }) | null;
  threads: Record<string, Thread>;
  /** Tokens of today; empty until they are known. */
  budgets: Budget[];
  /** Read out by screen readers; `count` tells two equal sentences apart. */
  announcement: { text: string; count: number };
};

export type ChatAction =
  | { type: "list_loading" }
  | { type: "list_loaded"; items: Conversation[]; nextToken: string; append: boolean }
  | { type: "list_failed"; problem: Problem }
  | { type: "search_changed"; words: string }
  | { type: "search_found"; words: string; items: Found[]; nextToken: string; append: boolean }
  | { type: "search_failed"; words: string; problem: Problem }
  | { type: "conversation_changed"; conversation: Conversation }
  | { type: "conversation_learned"; conversation: Conversation }
  | { type: "conversation_touched"; id: string; at: string }
  | { type: "conversation_removed"; id: string }
  | { type: "thread_loading"; thread: string; viewKey: string }
  | { type: "thread_started"; viewKey: string }
  | { type: "thread_adopted"; conversation: Conversation }
  | { type: "budgets_told"; budgets: Budget[] }
  | { type: "announced"; text: string }
  | ThreadAction;

export const INITIAL: ChatState = {
  list: { items: [], nextToken: "", status: "loading", problem: null },
  search: null,
  threads: {},
  budgets: [],
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
    case "search_changed": {
      if (action.words === "") return { ...state, search: null };
      // What was found stays in view until the new words have found something.
      const before = state.search ?? { items: [], nextToken: "" };
      return { ...state, search: { ...before, words: action.words, status: "loading", problem: null } };
    }
    case "search_found": {
      if (state.search?.words !== action.words) return state;
      const items = action.append ? mergeById(state.search.items, action.items) : action.items;
      const found = { items, nextToken: action.nextToken, status: "ready" as const, problem: null };
      return { ...state, search: { words: action.words, ...found } };
    }
    case "search_failed":
      if (state.search?.words !== action.words) return state;
      return { ...state, search: { ...state.search, items: [], status: "failed", problem: action.problem } };
    case "conversation_changed": {
      const { title } = action.conversation;
      const named = (item: Found): Found => (item.id === action.conversation.id ? { ...item, title } : item);
      const search = state.search && { ...state.search, items: state.search.items.map(named) };
      return { ...state, search, list: { ...state.list, items: upsert(state.list.items, action.conversation) } };
    }
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
      const found = state.search?.items.filter((item) => item.id !== action.id) ?? [];
      const search = state.search && { ...state.search, items: found };
      return { ...state, threads, search, list: { ...state.list, items } };
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
    case "budgets_told":
      return { ...state, budgets: action.budgets };
    case "announced":
      return { ...state, announcement: { text: action.text, count: state.announcement.count + 1 } };
    default: {
      const thread = state.threads[action.thread];
      return thread ? withThread(state, action.thread, reduceThread(thread, action)) : state;
    }
  }
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

function mergeById<T extends { id: string }>(known: T[], more: T[]): T[] {
  const ids = new Set(known.map((item) => item.id));
  return [...known, ...more.filter((item) => !ids.has(item.id))];
}

function upsert(items: Conversation[], conversation: Conversation): Conversation[] {
  const index = items.findIndex((item) => item.id === conversation.id);
  if (index < 0) return [conversation, ...items];
  return items.map((item) => (item.id === conversation.id ? conversation : item));
}

function withThread(state: ChatState, id: string, thread: Thread): ChatState {
  return { ...state, threads: { ...state.threads, [id]: thread } };
}
