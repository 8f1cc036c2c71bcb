// The server's HTTP as functions: one per endpoint, failures as ProblemError.
import { ProblemError, problemFromResponse, problemOf } from "./problem";
import type { SessionStore } from "./session";
import type { Budget, Conversation, Found, Run, SessionReply, WireMessage } from "./types";

type Call = { body?: unknown; headers?: Record<string, string>; signal?: AbortSignal | undefined };

/** Sends one request without a session. Throws ProblemError for every failure but an abort, which is thrown as it is. */
async function send(method: string, path: string, { body, headers, signal }: Call): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? null,
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ProblemError(problemOf("network"));
  }
  if (!response.ok) throw new ProblemError(await problemFromResponse(response, Date.now()));
  return response;
}

async function json<T>(response: Response): Promise<T> {
  try {
    return (await response.json()) as T;
  } catch {
    throw new ProblemError(problemOf("network"));
  }
}

export async function signUp(email: string, password: string): Promise<SessionReply> {
  return json(await send("POST", "/auth/v1/signup", { body: { email, password } }));
}

export async function signIn(email: string, password: string): Promise<SessionReply> {
  return json(await send("POST", "/auth/v1/token?grant_type=password", { body: { email, password } }));
}

export async function refresh(refreshToken: string): Promise<SessionReply> {
  return json(await send("POST", "/auth/v1/token?grant_type=refresh_token", { body: { refresh_token: refreshToken } }));
}

export type Page<T> = { items: T[]; nextPageToken: string };

export type OnConflict = "reject" | "enqueue" | "interrupt";

/** What is asked for: a new message, another one in place of `editMessageId`, or an answer given anew or gone on with. */
export type Ask =
  | { message: string; editMessageId?: string }
  | { regenerateMessageId: string }
  | { continueMessageId: string };

export type StartRun = { conversationId: string; ask: Ask; clientMessageId: string; onConflict: OnConflict };

/** The calls of a signed-in user. */
export class Api {
  private readonly sessions: SessionStore;

  constructor(sessions: SessionStore) {
    this.sessions = sessions;
  }

  /** Ends the session here at once and on the server if it can be reached. */
  async signOut(): Promise<void> {
    const session = this.sessions.get();
    this.sessions.end(null);
    if (!session) return;
    try {
      const expired = session.expiresAt <= Date.now();
      const accessToken = expired ? (await refresh(session.refreshToken)).access_token : session.accessToken;
      await send("POST", "/auth/v1/logout", { headers: { authorization: `Bearer ${accessToken}` } });
    } catch {
      // Signed out here all the same; the server's side ends with its time.
    }
  }

  async conversations(pageToken: string, pageSize = 30): Promise<Page<Conversation>> {
    return this.conversationPage<Conversation>({}, pageToken, pageSize);
  }

  /** Conversations whose title or text has these words, the best match first. */
  async search(words: string, pageToken: string, signal: AbortSignal, pageSize = 20): Promise<Page<Found>> {
    return this.conversationPage<Found>({ q: words }, pageToken, pageSize, signal);
  }

  private async conversationPage<T>(
    asked: Record<string, string>,
    pageToken: string,
    pageSize: number,
    signal?: AbortSignal,
  ): Promise<Page<T>> {
    const query = new URLSearchParams({
      ...asked,
      page_size: String(pageSize),
      ...(pageToken && { page_token: pageToken }),
    });
    const reply = await this.json<{ conversations: T[]; next_page_token: string }>(
      "GET",
      `/v1/conversations?${query}`,
      {
        signal,
      },
    );
    return { items: reply.conversations, nextPageToken: reply.next_page_token };
  }

  createConversation(title: string): Promise<Conversation> {
    return this.json("POST", "/v1/conversations", { body: { title } });
  }

  conversation(id: string): Promise<Conversation> {
    return this.json("GET", `/v1/conversations/${encodeURIComponent(id)}`);
  }

  renameConversation(id: string, title: string): Promise<Conversation> {
    return this.json("PATCH", `/v1/conversations/${encodeURIComponent(id)}`, { body: { title } });
  }

  /** Puts a conversation on the branch that a message is on. */
  selectBranch(id: string, messageId: string): Promise<Conversation> {
    return this.json("PATCH", `/v1/conversations/${encodeURIComponent(id)}`, { body: { head_message_id: messageId } });
  }

  async deleteConversation(id: string): Promise<void> {
    await this.send("DELETE", `/v1/conversations/${encodeURIComponent(id)}`);
  }

  async messages(conversationId: string, pageToken: string, pageSize = 40): Promise<Page<WireMessage>> {
    const query = new URLSearchParams({ page_size: String(pageSize), ...(pageToken && { page_token: pageToken }) });
    const path = `/v1/conversations/${encodeURIComponent(conversationId)}/messages?${query}`;
    const reply = await this.json<{ messages: WireMessage[]; next_page_token: string }>("GET", path);
    return { items: reply.messages, nextPageToken: reply.next_page_token };
  }

  /** The events of a new run, or of the same run if this was already sent under this id. */
  startRun({ conversationId, ask, clientMessageId, onConflict }: StartRun, signal: AbortSignal): Promise<Response> {
    const body = {
      ...("message" in ask && {
        message: ask.message,
        ...(ask.editMessageId && { edit_message_id: ask.editMessageId }),
      }),
      ...("regenerateMessageId" in ask && { regenerate_message_id: ask.regenerateMessageId }),
      ...("continueMessageId" in ask && { continue_message_id: ask.continueMessageId }),
      client_message_id: clientMessageId,
      ...(onConflict !== "reject" && { on_conflict: onConflict }),
    };
    return this.send("POST", `/v1/conversations/${encodeURIComponent(conversationId)}/runs`, {
      body,
      headers: { accept: "text/event-stream" },
      signal,
    });
  }

  /** The events of all runs of a conversation, after `<run id>:<seq>`; "" for the runs that are active now and all later ones. */
  conversationEvents(conversationId: string, after: string, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (after !== "") headers["last-event-id"] = after;
    const path = `/v1/conversations/${encodeURIComponent(conversationId)}/events`;
    return this.send("GET", path, { headers, signal });
  }

  /** The events of a run after `afterSeq`; 0 for all. */
  runEvents(runId: string, afterSeq: number, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (afterSeq > 0) headers["last-event-id"] = `${runId}:${afterSeq}`;
    return this.send("GET", `/v1/runs/${encodeURIComponent(runId)}/events`, { headers, signal });
  }

  run(id: string): Promise<Run> {
    return this.json("GET", `/v1/runs/${encodeURIComponent(id)}`);
  }

  cancelRun(id: string): Promise<Run> {
    return this.json("POST", `/v1/runs/${encodeURIComponent(id)}/cancel`);
  }

  /** Where the budgets over this user stand today. */
  async budgets(): Promise<Budget[]> {
    return (await this.json<{ budgets: Budget[] }>("GET", "/v1/usage?days=1")).budgets;
  }

  private async json<T>(method: string, path: string, call: Call = {}): Promise<T> {
    return json(await this.send(method, path, call));
  }

  /** Sends with the session's access token; after a 401 once more with a new one. */
  private async send(method: string, path: string, call: Call = {}): Promise<Response> {
    const attempt = (accessToken: string) =>
      send(method, path, { ...call, headers: { ...call.headers, authorization: `Bearer ${accessToken}` } });
    const accessToken = await this.sessions.accessToken();
    try {
      return await attempt(accessToken);
    } catch (error) {
      if (!(error instanceof ProblemError) || error.problem.status !== 401) throw error;
    }
    const renewed = await this.sessions.accessToken(accessToken);
    try {
      return await attempt(renewed);
    } catch (error) {
      // A token fresh from the server and refused all the same: the session itself is over.
      if (error instanceof ProblemError && error.problem.status === 401) this.sessions.end(problemOf("signed_out"));
      throw error;
    }
  }
}
