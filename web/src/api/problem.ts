// What went wrong, as a value, and the words a person can act on.
import { explainLimit, type Limit, limitOf } from "./limit";

/** A failure of a request or of a run. `code` is the server's reason or one of "network" and "signed_out". */
export type Problem = {
  code: string;
  /** HTTP status; 0 when there was no answer or when it came as an event. */
  status: number;
  detail: string;
  field: string | null;
  requestId: string | null;
  /** When trying again makes sense, in milliseconds since the epoch; null when the server did not say. */
  retryAt: number | null;
  /** The limit that refused, where one did and the server told which. */
  limit: Limit | null;
};

export class ProblemError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.code);
    this.problem = problem;
  }
}

export function problemOf(code: string, more: Partial<Problem> = {}): Problem {
  return { code, status: 0, detail: "", field: null, requestId: null, retryAt: null, limit: null, ...more };
}

/** The problem inside whatever was thrown; what is not a ProblemError becomes "unexpected". */
export function asProblem(error: unknown): Problem {
  return error instanceof ProblemError ? error.problem : problemOf("unexpected");
}

/** Reads an answer that is not 2xx. Never throws: a proxy's HTML page is a problem too. */
export async function problemFromResponse(response: Response, now: number): Promise<Problem> {
  let body: Record<string, unknown> = {};
  try {
    const value: unknown = await response.json();
    if (typeof value === "object" && value !== null) body = value as Record<string, unknown>;
  } catch {
    // Not JSON: the status must do.
  }
  const text = (key: string): string | null => (typeof body[key] === "string" ? (body[key] as string) : null);
  const header = Number(response.headers.get("retry-after") ?? Number.NaN);
  const seconds = typeof body.retry_after === "number" ? body.retry_after : header;
  return {
    code: text("code") ?? text("error_code") ?? `http_${response.status}`,
    status: response.status,
    detail: text("detail") ?? text("title") ?? "",
    field: text("field"),
    requestId: text("request_id") ?? response.headers.get("x-request-id"),
    retryAt: Number.isFinite(seconds) ? now + seconds * 1000 : null,
    limit: limitOf(body),
  };
}

export type Words = {
  text: string;
  /** Whether doing the same again may help. */
  retry: boolean;
};

const WORDS: Record<string, Words> = {
  network: { text: "Parley cannot be reached. Check your connection, then try again.", retry: true },
  signed_out: { text: "Your session has ended. Sign in again; nothing you wrote is lost.", retry: false },
  invalid_credentials: { text: "That e-mail address and password do not go together.", retry: false },
  email_taken: { text: "There is already an account with this e-mail address. Sign in instead.", retry: false },
  too_many_attempts: { text: "Too many attempts. Wait a little, then try again.", retry: true },
  conversation_not_found: { text: "This conversation is not here. It may have been deleted.", retry: false },
  run_not_found: { text: "This answer is no longer on the server.", retry: false },
  client_message_id_reused: {
    text: "This message was already sent with other words. Send it as a new one.",
    retry: false,
  },
  concurrent_request: { text: "Another answer of yours is still being written. What shall happen?", retry: false },
  queue_full: {
    text: "Too many of your messages are waiting already. Let some of them be answered first.",
    retry: true,
  },
  message_not_found: { text: "This message is no longer here. Load the page again.", retry: false },
  message_not_finished: { text: "This answer is still being written.", retry: true },
  not_interrupted: { text: "This answer is whole: there is nothing to go on with.", retry: false },
  body_too_large: { text: "The message is too large to send. Shorten it, or send it in pieces.", retry: false },
  context_too_long: {
    text: "This conversation has become too long for the model. Start a new one, or send a shorter message.",
    retry: false,
  },
  request_rejected: { text: "The model's provider refused this message. Try other words.", retry: false },
  model_not_found: { text: "The chosen model is not available here.", retry: false },
  no_provider_configured: {
    text: "No model is connected to this server yet. Ask whoever runs it to add a provider.",
    retry: true,
  },
  provider_auth_failed: {
    text: "The model's provider did not accept this server's key. Ask whoever runs the server to check it.",
    retry: true,
  },
  provider_rate_limited: { text: "The model's provider is busy and asks us to wait.", retry: true },
  provider_unavailable: {
    text: "The model's provider is not answering right now. Try again in a moment.",
    retry: true,
  },
  provider_protocol_error: {
    text: "The model's provider sent something that could not be read. Try again.",
    retry: true,
  },
  first_token_timeout: { text: "The model took too long to begin. Try again.", retry: true },
  stream_stalled: {
    text: "The model stopped in the middle of its answer. What it wrote is kept; try again.",
    retry: true,
  },
  run_timeout: { text: "The answer took too long and was cut off. What was written is kept.", retry: true },
  run_interrupted: { text: "The answer was cut off on our side. What was written is kept; try again.", retry: true },
  rate_limit_exceeded: {
    text: "You have sent many messages in a short time. Wait a little, then try again.",
    retry: true,
  },
  limit_exceeded: { text: "A usage limit has been reached. Try again later.", retry: true },
  daily_limit_exceeded: { text: "You have sent as many messages as you can in a day. Try again later.", retry: true },
  token_budget_exceeded: {
    text: "There were not enough tokens left for this. Try again, or ask whoever runs this server for more.",
    retry: true,
  },
  turn_limit: { text: "This conversation has reached its limit of messages. Start a new one.", retry: false },
  not_sent: { text: "The message was not sent.", retry: true },
  gone: { text: "The rest of this answer could not be fetched.", retry: false },
};

/** Says a problem in words. The server's own sentence is used only where it names what to change. */
export function explain(problem: Problem, now: number = Date.now()): Words {
  const text = problem.limit && explainLimit(problem.limit, now);
  if (text) return { text, retry: true };
  const words = WORDS[problem.code];
  if (words) return words;
  if (problem.status === 413) return WORDS.body_too_large as Words;
  if (problem.status === 429) return { text: "Too many requests at once. Wait a little, then try again.", retry: true };
  if (problem.status === 400 && problem.detail) return { text: problem.detail, retry: false };
  if (problem.status === 404) return { text: "This is not here. It may have been deleted.", retry: false };
  if (problem.status === 502 || problem.status === 503 || problem.status === 504 || problem.code === "unavailable") {
    return { text: "Parley is not available for the moment. Try again shortly.", retry: true };
  }
  return { text: "Something went wrong on our side. Try again; if it stays, report the id below.", retry: true };
}
