// The turns begun on this page: each is sent, followed to its end over the connection that started it, and stopped.
import type { Api, OnConflict } from "../api/client";
import { followRun } from "../api/follow";
import { asProblem, ProblemError, problemOf } from "../api/problem";
import type { RunEvent } from "../api/types";
import type { Drafts } from "./drafts";
import { FrameBatch } from "./frames";
import { isLive, type Message } from "./message";
import { randomId } from "./random-id";
import { NEW_THREAD } from "./state";
import type { ChatStore } from "./store";
import { asked, type Turn } from "./turn";

export type TurnEvents = {
  /** The new conversation got its id. */
  adopted: (conversationId: string) => void;
  /** The turn is being sent; its run is known; or it was not sent. */
  settled: (thread: string) => void;
  /** The run is there and has not begun. */
  accepted: (thread: string, answerKey: string, runId: string) => void;
  /** Stop was pressed before the run had an id, and now it has one. */
  stoppable: (thread: string, answerKey: string, runId: string) => void;
  saw: (thread: string, events: RunEvent[]) => void;
  ended: (thread: string, answerKey: string) => void;
  /** How it ended is only in what is stored. */
  lost: (thread: string) => void;
};

export class Turns {
  private readonly api: Api;
  private readonly store: ChatStore;
  private readonly drafts: Drafts;
  private readonly tell: TurnEvents;
  private readonly following = new Map<string, AbortController>();
  private disposed = false;

  constructor(api: Api, store: ChatStore, drafts: Drafts, tell: TurnEvents) {
    this.api = api;
    this.store = store;
    this.drafts = drafts;
    this.tell = tell;
  }

  /** Stops watching; the runs go on at the server. */
  dispose(): void {
    this.disposed = true;
    for (const abort of this.following.values()) abort.abort();
  }

  /** Whether this answer's events come over a connection of its own. */
  follows(answerKey: string): boolean {
    return this.following.has(answerKey);
  }

  /** Lets go of an answer, whose run goes on, or of a message that may or may not have arrived. */
  abandon(answerKey: string): void {
    this.following.get(answerKey)?.abort();
  }

  async send(thread: string, turn: Turn, onConflict: OnConflict): Promise<void> {
    const answerKey = randomId();
    const queued = onConflict !== "reject";
    this.drafts.saveUnsent(thread, "");
    this.store.dispatch({ type: "turn_sent", thread, turn, answerKey, queued });
    const abort = new AbortController();
    this.following.set(answerKey, abort);
    this.tell.settled(thread);
    let conversationId = thread;
    try {
      if (thread === NEW_THREAD) conversationId = await this.adopt();
      else this.store.dispatch({ type: "conversation_touched", id: thread, at: new Date().toISOString() });
      abort.signal.throwIfAborted();
      await this.follow(conversationId, turn, onConflict, answerKey, abort.signal);
    } catch (error) {
      if (this.disposed) return;
      this.following.delete(answerKey);
      this.fail(conversationId, turn, answerKey, abort.signal.aborted ? null : error);
    } finally {
      this.following.delete(answerKey);
    }
  }

  private fail(thread: string, turn: Turn, answerKey: string, error: unknown): void {
    const answer = this.message(thread, answerKey);
    if (answer?.runId) {
      // Let go of on purpose: what is stored says how it stands.
      if (error === null) this.tell.lost(thread);
      else this.store.dispatch({ type: "run_left", thread, answerKey, problem: asProblem(error) });
    } else {
      const problem = error === null ? problemOf("not_sent") : asProblem(error);
      // A reload or the sign-in form may be next: the words must not be lost.
      if ("text" in turn) this.drafts.saveUnsent(thread, turn.text);
      this.store.dispatch({ type: "turn_unsent", thread, turn, answerKey, problem });
    }
    this.tell.settled(thread);
  }

  /** Gives the new thread its conversation. The server makes its title. */
  private async adopt(): Promise<string> {
    const conversation = await this.api.createConversation("");
    if (this.disposed) throw new ProblemError(problemOf("signed_out"));
    this.store.dispatch({ type: "thread_adopted", conversation });
    this.tell.adopted(conversation.id);
    return conversation.id;
  }

  private async follow(
    thread: string,
    turn: Turn,
    onConflict: OnConflict,
    answerKey: string,
    signal: AbortSignal,
  ): Promise<void> {
    const batch = new FrameBatch<RunEvent>((events) => {
      if (this.disposed) return;
      const known = this.message(thread, answerKey)?.runId != null;
      this.store.dispatch({ type: "run_events", thread, answerKey, events, at: Date.now() });
      this.tell.saw(thread, events);
      const runId = events[0]?.run_id;
      if (known || !runId) return;
      this.tell.settled(thread);
      this.tell.accepted(thread, answerKey, runId);
      if (this.message(thread, answerKey)?.stopping) this.tell.stoppable(thread, answerKey, runId);
    });
    const watcher = {
      events: (events: RunEvent[]) => batch.add(events),
      replay: () => {
        batch.flush();
        this.store.dispatch({ type: "run_replayed", thread, answerKey });
      },
      connection: (connection: "open" | "waiting") =>
        this.store.dispatch({ type: "run_connection", thread, answerKey, connection }),
    };
    const start = { conversationId: thread, ask: asked(turn), clientMessageId: turn.clientMessageId, onConflict };
    try {
      const ending = await followRun(this.api, start, watcher, signal);
      batch.flush();
      this.following.delete(answerKey);
      if (ending === "gone" && isLive(this.message(thread, answerKey) as Message)) this.tell.lost(thread);
      else this.tell.ended(thread, answerKey);
    } finally {
      batch.flush();
    }
  }

  private message(thread: string, key: string): Message | undefined {
    return this.store.get().threads[thread]?.messages.find((message) => message.key === key);
  }
}
