// The open conversation stays alive: runs that others start, here in other tabs or in the background, appear as they are written.
import type { Api } from "../api/client";
import { TIMING } from "../api/connection";
import { type FeedEnding, FeedPlace, followConversation } from "../api/feed";
import type { Problem } from "../api/problem";
import type { RunEvent } from "../api/types";
import { FrameBatch } from "./frames";
import { isLive, type Message } from "./message";
import type { ChatStore } from "./store";

export type LiveEvents = {
  /** Loads the conversation's messages anew; resolves to whether that worked. */
  load: (thread: string) => Promise<boolean>;
  /** Whether the answer's events come over a connection of its own. */
  isOwn: (answerKey: string) => boolean;
  /** A run is there and may not have begun. */
  accepted: (thread: string, answerKey: string, runId: string) => void;
  ended: (thread: string, answerKey: string) => void;
  gone: (thread: string, problem: Problem) => void;
};

type Feed = {
  place: FeedPlace;
  abort: AbortController | null;
  batch: FrameBatch<RunEvent>;
  /** Runs whose answers are drawn from here. */
  tracked: Set<string>;
  /** Events of runs that the messages in view do not have (yet). */
  pending: Map<string, RunEvent[]>;
  /** Runs of other branches. */
  elsewhere: Set<string>;
  /** Runs of which something has come, or that what comes begins with. */
  told: Set<string>;
  fetching: boolean;
};

/** Milliseconds before messages that could not be loaded are asked for again. */
const AGAIN_MS = 2000;

export class Live {
  private readonly api: Pick<Api, "conversationEvents">;
  private readonly store: ChatStore;
  private readonly tell: LiveEvents;
  private readonly timing: typeof TIMING;
  private readonly feeds = new Map<string, Feed>();
  private shown: string | null = null;

  constructor(api: Pick<Api, "conversationEvents">, store: ChatStore, tell: LiveEvents, timing = TIMING) {
    this.timing = timing;
    this.api = api;
    this.store = store;
    this.tell = tell;
  }

  dispose(): void {
    for (const id of [...this.feeds.keys()]) this.forget(id);
  }

  /** Says which conversation is in view; null: none, or nobody looks at the tab. Others are followed until their answers have ended. */
  show(thread: string | null): void {
    this.shown = thread;
    for (const id of this.feeds.keys()) this.rest(id);
  }

  /** A conversation that is not there any more. */
  forget(thread: string): void {
    this.feeds.get(thread)?.abort?.abort();
    this.feeds.delete(thread);
  }

  /** To be called when messages have been loaded or a turn of this page has ended: follows what is written in the conversation. */
  loaded(thread: string): void {
    if (!this.wanted(thread)) return;
    const messages = this.messages(thread);
    const feed = this.feeds.get(thread);
    const missed = messages.find(
      (message) =>
        isLive(message) &&
        message.runId !== null &&
        !this.tell.isOwn(message.key) &&
        !feed?.tracked.has(message.runId) &&
        !feed?.pending.has(message.runId),
    );
    if (feed && !missed) {
      if (feed.abort === null) this.start(thread, feed);
      this.deliverPending(thread, feed);
      return;
    }
    // What has been written of a missed answer is told again; after the last one nothing has been missed.
    const last = missed ?? messages.findLast((message) => message.role === "assistant" && message.runId !== null);
    this.begin(thread, last ? `${last.runId}:${missed ? 0 : last.lastSeq}` : "");
  }

  /** To be called when a turn of this page is sent, and when its run is known or it has failed. */
  settle(thread: string): void {
    this.rest(thread);
    const feed = this.feeds.get(thread);
    if (feed) this.deliverPending(thread, feed);
  }

  /** What came over a connection of its own need not come from here again. */
  saw(thread: string, events: RunEvent[]): void {
    const runId = events[0]?.run_id;
    if (runId) this.feeds.get(thread)?.place.of(runId).accept(events);
  }

  private begin(thread: string, from: string): void {
    this.forget(thread);
    const feed: Feed = {
      place: new FeedPlace(from),
      abort: null,
      batch: new FrameBatch<RunEvent>((events) => this.draw(thread, feed, events)),
      tracked: new Set(),
      pending: new Map(),
      elsewhere: new Set(),
      told: new Set([from.slice(0, from.lastIndexOf(":"))]),
      fetching: false,
    };
    this.feeds.set(thread, feed);
    this.start(thread, feed);
  }

  private async start(thread: string, feed: Feed): Promise<void> {
    const abort = new AbortController();
    feed.abort = abort;
    let interrupted = false;
    const watcher = {
      events: (runId: string, events: RunEvent[]) => this.receive(thread, feed, runId, events),
      replay: (runId: string) => {
        feed.batch.flush();
        const answer = this.answer(thread, runId);
        if (answer && !this.tell.isOwn(answer.key)) {
          this.store.dispatch({ type: "run_replayed", thread, answerKey: answer.key });
        }
      },
      resume: (runId: string) => {
        feed.batch.flush();
        const answer = this.answer(thread, runId);
        if (answer) this.store.dispatch({ type: "run_resumed", thread, answerKey: answer.key });
      },
      connection: (connection: "open" | "waiting") => {
        const answers = this.messages(thread).filter((message) => isLive(message) && !this.tell.isOwn(message.key));
        for (const { key: answerKey } of answers) {
          this.store.dispatch({ type: "run_connection", thread, answerKey, connection });
        }
        // Should its end have been missed for good, it is at least stored.
        if (connection === "open" && interrupted && answers.length > 0) this.tell.load(thread);
        interrupted = connection === "waiting";
      },
    };
    let ending: FeedEnding;
    try {
      ending = await followConversation(this.api, thread, feed.place, watcher, abort.signal, this.timing);
    } catch {
      // Aborted, or the session is over, which the page shows by itself.
      return;
    } finally {
      feed.batch.flush();
      if (feed.abort === abort) feed.abort = null;
    }
    if (this.feeds.get(thread) !== feed) return;
    if (ending.kind === "gone") {
      this.tell.gone(thread, ending.problem);
      return;
    }
    for (const runId of feed.tracked) {
      const answer = this.answer(thread, runId);
      if (answer && isLive(answer)) this.store.dispatch({ type: "run_replayed", thread, answerKey: answer.key });
    }
    this.begin(thread, "");
    this.tell.load(thread);
  }

  private receive(thread: string, feed: Feed, runId: string, events: RunEvent[]): void {
    if (feed.elsewhere.has(runId)) return;
    const waiting = feed.pending.get(runId);
    const answer = this.answer(thread, runId);
    // Of the runs that have ended only one that is tried again is told from its first event.
    const again = answer !== undefined && !isLive(answer) && !this.tell.isOwn(answer.key) && !feed.told.has(runId);
    feed.told.add(runId);
    if (answer && !waiting && !again) {
      this.deliver(thread, feed, answer, events);
      return;
    }
    if (waiting) waiting.push(...events);
    else feed.pending.set(runId, [...events]);
    if (!answer || again) this.fetch(thread, feed);
  }

  /** Loads the messages that runs which began elsewhere have brought. */
  private async fetch(thread: string, feed: Feed): Promise<void> {
    if (feed.fetching) return;
    feed.fetching = true;
    // While a turn is being sent from here, its run may be one of them.
    while (feed.pending.size > 0 && this.feeds.get(thread) === feed && !this.sending(thread)) {
      const asked = [...feed.pending.keys()];
      if (await this.tell.load(thread)) {
        this.deliverKnown(thread, feed);
        // Not among the messages: of another branch.
        for (const runId of asked) if (feed.pending.delete(runId)) feed.elsewhere.add(runId);
      } else await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
    feed.fetching = false;
  }

  private deliverPending(thread: string, feed: Feed): void {
    this.deliverKnown(thread, feed);
    if (feed.pending.size > 0) this.fetch(thread, feed);
  }

  private deliverKnown(thread: string, feed: Feed): void {
    for (const [runId, events] of feed.pending) {
      const answer = this.answer(thread, runId);
      if (!answer) continue;
      feed.pending.delete(runId);
      this.deliver(thread, feed, answer, events);
    }
  }

  private deliver(thread: string, feed: Feed, answer: Message, events: RunEvent[]): void {
    if (this.tell.isOwn(answer.key)) return;
    if (isLive(answer) && answer.runId && !feed.tracked.has(answer.runId)) {
      feed.tracked.add(answer.runId);
      if (answer.lastSeq === 0) this.store.dispatch({ type: "run_replayed", thread, answerKey: answer.key });
    }
    feed.batch.add(events);
  }

  private draw(thread: string, feed: Feed, events: RunEvent[]): void {
    for (const runId of new Set(events.map((event) => event.run_id))) {
      const before = this.answer(thread, runId);
      if (!before || this.tell.isOwn(before.key)) continue;
      const { key: answerKey } = before;
      const own = events.filter((event) => event.run_id === runId);
      this.store.dispatch({ type: "run_events", thread, answerKey, events: own, at: Date.now() });
      const after = this.answer(thread, runId);
      if (!isLive(before) || !after) continue;
      if (!isLive(after)) {
        feed.tracked.delete(runId);
        this.tell.ended(thread, answerKey);
        this.rest(thread);
      } else if (!after.begun) this.tell.accepted(thread, answerKey, runId);
    }
  }

  /** Stops following what nobody looks at; it goes on from the same place when somebody does. */
  private rest(thread: string): void {
    const feed = this.feeds.get(thread);
    if (!feed || this.wanted(thread)) return;
    feed.abort?.abort();
    feed.abort = null;
  }

  /**
   * While a turn of this page has a connection of its own, another one waits until it has ended: browsers allow few at once.
   */
  private wanted(thread: string): boolean {
    const live = this.messages(thread).filter(isLive);
    const own = live.filter((message) => message.runId === null || this.tell.isOwn(message.key));
    return live.length > own.length || (thread === this.shown && own.length === 0);
  }

  /** A turn of this page whose run is not known yet. */
  private sending(thread: string): boolean {
    return this.messages(thread).some((message) => isLive(message) && message.runId === null);
  }

  private answer(thread: string, runId: string): Message | undefined {
    return this.messages(thread).find((message) => message.role === "assistant" && message.runId === runId);
  }

  private messages(thread: string): Message[] {
    return this.store.get().threads[thread]?.messages ?? [];
  }
}
