// What the server sends: the shapes of its JSON and of the events of a run.

export type User = { id: string; email: string };

/** A signed-in session as the server answers it. Lengths in seconds. */
export type SessionReply = { access_token: string; refresh_token: string; expires_in: number; user: User };

export type Conversation = { id: string; title: string; created_at: string; updated_at: string };

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

export type WireMessage = {
  id: string;
  conversation_id: string;
  run_id: string;
  role: "user" | "assistant";
  content: string;
  parts: { type: string; text?: string }[];
  state: "complete" | "partial" | "cancelled" | "failed" | "interrupted";
  model: string;
  usage: Usage | null;
  created_at: string;
};

export type RunStatus = "running" | "completed" | "cancelled" | "failed" | "interrupted" | "limited";

export type Run = {
  id: string;
  conversation_id: string;
  message_id: string;
  /** Asked for; after the end the one that answered. */
  model: string;
  status: RunStatus;
  error_code: string | null;
};

type Numbered = { run_id: string; seq: number };

/** One entry of a run's log. Names not listed here are ignored, so that later servers may send more. */
export type RunEvent = Numbered &
  (
    | { name: "run"; conversation_id: string; message_id: string; user_message_id: string; model: string }
    | { name: "user_message"; message_id: string; content: string; created_at: string }
    | { name: "thinking" }
    // offset: where delta begins in the answer, in Unicode code points.
    | { name: "text"; delta: string; offset: number }
    | { name: "reasoning"; delta: string }
    | { name: "reset"; offset: number }
    | ({ name: "usage" } & Usage)
    | { name: "done"; status: RunStatus; message_id: string }
    | { name: "error"; code: string; message: string; request_id: string; retry_after?: number }
  );

const KNOWN = new Set(["run", "user_message", "thinking", "text", "reasoning", "reset", "usage", "done", "error"]);

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
  return { ...value, name } as RunEvent;
}
