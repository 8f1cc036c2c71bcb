// What the server sends: the shapes of its JSON and of the events of a run.

export type User = { id: string; email: string };

/** A signed-in session as the server answers it. Lengths in seconds. */
export type SessionReply = { access_token: string; refresh_token: string; expires_in: number; user: User };

export type Conversation = { id: string; title: string; created_at: string; updated_at: string };

/** Something a search has found; `message_id` is empty where the title matches. */
export type Found = Conversation & { match: { message_id: string; snippet: string } | null };

export type Usage = {
  input_tokens: number;
  output_tokens: number;
  total_tokens: number;
  cached_tokens: number;
  reasoning_tokens: number;
  /** US dollars; null when the model's price is not known. */
  cost: number | null;
  /** Counted by the server, since the provider did not say. */
  estimated: boolean;
};

/** A limit as an error tells of it. */
export type LimitTold = { limit_type: string; current: number; limit: number; resets_at: string };

/** Where a budget of tokens stands today; `current` includes what running answers hold back, `limit` null: none. */
export type Budget = {
  scope: "user" | "organization" | "global";
  current: number;
  limit: number | null;
  resets_at: string;
};

/** One piece of a stored message; kinds not listed here are ignored. */
export type WirePart =
  | { type: "text" | "reasoning"; text: string }
  | { type: "tool_use"; tool_call_id: string; name: string; input: unknown }
  | { type: "tool_result"; tool_call_id: string; name: string; content: string; is_error: boolean };

export type WireMessage = {
  id: string;
  conversation_id: string;
  run_id: string;
  role: "user" | "assistant";
  content: string;
  parts: WirePart[];
  state: "complete" | "partial" | "cancelled" | "failed" | "interrupted";
  model: string;
  usage: Usage | null;
  created_at: string;
  /** All messages that follow the same one, this one included, oldest first. */
  sibling_ids: string[];
};

export type RunStatus = "queued" | "running" | "completed" | "cancelled" | "failed" | "interrupted" | "limited";

export function isFinal(status: RunStatus): boolean {
  return status !== "queued" && status !== "running";
}

export type Run = {
  id: string;
  conversation_id: string;
  message_id: string;
  status: RunStatus;
  error_code: string | null;
};

type Numbered = { run_id: string; seq: number };

/** One entry of a run's log. Names not listed here are ignored, so that later servers may send more. */
export type RunEvent = Numbered &
  (
    | { kind: "run"; conversation_id: string; message_id: string; user_message_id: string; model: string }
    | { kind: "user_message"; message_id: string; content: string; created_at: string }
    | { kind: "thinking" }
    // offset: where delta begins in the answer, in Unicode code points.
    | { kind: "text"; delta: string; offset: number }
    | { kind: "reasoning"; delta: string }
    // What a step is doing, in words for people.
    | { kind: "progress"; step: number; message: string }
    | { kind: "tool_use"; tool_call_id: string; name: string; input: unknown }
    | { kind: "tool_result"; tool_call_id: string; name: string; content: string; is_error: boolean }
    // A step is done again: its text from offset on, its reasoning and its tool calls no longer count.
    | { kind: "reset"; step: number; offset: number }
    | ({ kind: "usage" } & Usage)
    // model: the one that answered; empty where none did.
    | { kind: "done"; status: RunStatus; message_id: string; model?: string }
    // A limit that refused is told by further members: limit_type, current, limit, resets_at.
    | ({ kind: "error"; code: string; message: string; request_id: string; retry_after?: number } & Partial<LimitTold>)
  );

const KINDS: RunEvent["kind"][] = [
  ...(["run", "user_message", "thinking", "progress", "text", "reasoning", "tool_use", "tool_result"] as const),
  ...(["reset", "usage", "done", "error"] as const),
];
const KNOWN = new Set<string>(KINDS);

/** Turns a frame into an event; null for a name this page does not know or data that is no event. */
export function parseRunEvent(name: string, data: string): RunEvent | null {
  if (!KNOWN.has(name)) return null;
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { run_id, seq } = value as Partial<Numbered>;
  if (typeof run_id !== "string" || typeof seq !== "number") return null;
  return { ...value, kind: name } as RunEvent;
}
