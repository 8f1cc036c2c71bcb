// What a person can do with their conversations: each deed talks to the server and tells the store what came of it.
import type { Api, OnConflict } from "../api/client";
import { asProblem, explain, type Problem, problemOf } from "../api/problem";
import { type Conversation, isFinal } from "../api/types";
import { wordsAtTheEnd } from "./announce";
import { Budgets } from "./budgets";
import type { Drafts } from "./drafts";
import { Live } from "./live";
import { isLive, type Message } from "./message";
import { randomId } from "./random-id";
import { Search } from "./search";
import { NEW_THREAD } from "./state";
import type { ChatStore } from "./store";
import { activeAnswer, type Thread } from "./thread";
import { titleOf } from "./title";
import { Titles } from "./titles";
import type { Turn } from "./turn";
import { Turns } from "./turns";

/** How long a stopped run may take to say its last word before the page asks for what is stored. */
const LAST_WORD_MS = 3000;
/** A run that has said nothing but that it is there for this long may be waiting in a queue. */
const QUEUED_MS = 700;

export class ChatController {
  readonly store: ChatStore;
  readonly search: Search;
  private readonly api: Api;
  private readonly drafts: Drafts;
  private readonly turns: Turns;
  private readonly live: Live;
  private readonly titles: Titles;
  private readonly budgets: Budgets;
  private readonly loading = new Map<string, { now: Promise<boolean>; next: Promise<boolean> | null }>();
  private readonly cancelling = new Set<string>();
  private readonly asked = new Set<string>();
  private disposed = false;

  /** `onAdopted` is told the id that the new conversation got, once, when its first message is sent. */
  constructor(api: Api, store: ChatStore, drafts: Drafts, onAdopted: (conversationId: string) => void) {
    this.api = api;
    this.drafts = drafts;
    this.store = store;
    this.search = new Search(api, store);
    this.titles = new Titles(api, store);
    this.budgets = new Budgets(api, store);
    const told = {
      accepted: (thread: string, answerKey: string, runId: string) =>
        this.askWhetherQueued(thread, answerKey, runId, QUEUED_MS),
      ended: (thread: string, answerKey: string) => this.ended(thread, answerKey),
    };
    this.live = new Live(api, store, {
      ...told,
      load: (thread) => this.load(thread),
      isOwn: (answerKey) => this.turns.follows(answerKey),
      gone: (thread, problem) => this.lost(thread, problem),
    });
    this.turns = new Turns(api, store, drafts, {
      ...told,
      adopted: onAdopted,
      settled: (thread) => this.live.settle(thread),
      stoppable: (thread, answerKey, runId) => this.cancel(thread, answerKey, runId),
      saw: (thread, events) => this.live.saw(thread, events),
      lost: (thread) => this.load(thread),
    });
  }

  /** Stops watching; the runs go on at the server. */
  dispose(): void {
    this.disposed = true;
    this.turns.dispose();
    this.live.dispose();
    this.titles.dispose();
    this.budgets.dispose();
    this.search.dispose();
  }

  async loadConversations(): Promise<void> {
    this.budgets.ask();
    this.store.dispatch({ type: "list_loading" });
    await this.loadPage("", false);
  }

  async moreConversations(): Promise<void> {
    const { nextToken, status } = this.store.get().list;
    if (nextToken === "" || status === "loading") return;
    this.store.dispatch({ type: "list_loading" });
    await this.loadPage(nextToken, true);
  }

  private async loadPage(pageToken: string, append: boolean): Promise<void> {
    try {
      const page = await this.api.conversations(pageToken);
      this.store.dispatch({ type: "list_loaded", items: page.items, nextToken: page.nextPageToken, append });
    } catch (error) {
      this.store.dispatch({ type: "list_failed", problem: asProblem(error) });
    }
  }

  startNew(): void {
    // The message just sent is about to give the new thread its id.
    if (activeAnswer(this.thread(NEW_THREAD))) return;
    this.store.dispatch({ type: "thread_started", viewKey: randomId() });
  }

  /** Says which conversation is in view, so that it is kept up to date; null: none, or nobody looks at the tab. */
  show(id: string | null): void {
    this.live.show(id === NEW_THREAD ? null : id);
  }

  /** Loads a conversation's newest messages and follows what is written in it. */
  async open(id: string): Promise<void> {
    // A conversation that has just got its id has nothing to load.
    if (this.thread(id)?.messages.some((message) => isLive(message) && this.turns.follows(message.key))) return;
    this.store.dispatch({ type: "thread_loading", thread: id, viewKey: randomId() });
    if (!(await this.load(id, true))) return;
    if (!this.store.get().list.items.some((item) => item.id === id)) this.learnConversation(id);
    const last = this.thread(id)?.messages.at(-1);
    if (last?.state === "failed" && last.problem === null && last.runId) this.learnFailure(id, last, last.runId);
  }

  /** Loads the newest messages, beginning no sooner than now; resolves to whether that worked. Who asked for it is told if it did not. */
  private load(id: string, asked = false): Promise<boolean> {
    const under = this.loading.get(id);
    if (under) {
      under.next ??= under.now.then(() => this.load(id, asked));
      return under.next;
    }
    const now = this.loadNow(id, asked).finally(() => this.loading.delete(id));
    this.loading.set(id, { now, next: null });
    return now;
  }

  private async loadNow(id: string, asked: boolean): Promise<boolean> {
    try {
      const page = await this.api.messages(id, "");
      if (this.disposed) return false;
      this.store.dispatch({ type: "thread_loaded", thread: id, messages: page.items, olderToken: page.nextPageToken });
    } catch (error) {
      if (asked) this.store.dispatch({ type: "thread_failed", thread: id, problem: asProblem(error) });
      return false;
    }
    this.live.loaded(id);
    for (const message of this.thread(id)?.messages ?? []) {
      // What waits says nothing until those before it have ended.
      if (isLive(message) && !message.begun && message.runId) this.askWhetherQueued(id, message.key, message.runId, 0);
    }
    return true;
  }

  /** A conversation reached by its address alone, far down in the list. */
  private async learnConversation(id: string): Promise<void> {
    try {
      this.store.dispatch({ type: "conversation_learned", conversation: await this.api.conversation(id) });
    } catch {
      // Only its title is missing; the messages are there.
    }
  }

  /** The stored message says that it failed; why is in the run. */
  private async learnFailure(thread: string, { key }: Message, runId: string): Promise<void> {
    try {
      const { error_code: code } = await this.api.run(runId);
      if (code) this.store.dispatch({ type: "answer_problem", thread, answerKey: key, problem: problemOf(code) });
    } catch {
      // It is shown as failed all the same.
    }
  }

  private askWhetherQueued(thread: string, answerKey: string, runId: string, afterMs: number): void {
    if (this.asked.has(runId)) return;
    this.asked.add(runId);
    setTimeout(async () => {
      const answer = this.message(thread, answerKey);
      if (this.disposed || !answer || answer.begun || !isLive(answer)) return;
      try {
        const { status } = await this.api.run(runId);
        if (status === "queued") this.store.dispatch({ type: "run_queued", thread, answerKey });
      } catch {
        // It is shown as one that thinks.
      }
    }, afterMs);
  }

  async loadOlder(id: string): Promise<void> {
    const thread = this.thread(id);
    if (!thread || thread.olderToken === "" || thread.loadingOlder) return;
    this.store.dispatch({ type: "older_loading", thread: id });
    try {
      const page = await this.api.messages(id, thread.olderToken);
      this.store.dispatch({ type: "older_loaded", thread: id, messages: page.items, olderToken: page.nextPageToken });
    } catch {
      this.store.dispatch({ type: "older_failed", thread: id });
    }
  }

  /** Sends a message, in a new conversation if `id` is NEW_THREAD; the text must not be blank. */
  send(id: string, text: string): Promise<void> {
    return this.begin(id, { kind: "new", text, clientMessageId: randomId() });
  }

  /** Sends another message in place of one that was sent; what followed it stays as another branch. */
  edit(id: string, message: Message, text: string): Promise<void> {
    return this.branch(id, message, (target) => ({ kind: "edit", text, target, clientMessageId: randomId() }));
  }

  /** Has an answer given anew; the old one stays as another branch. */
  regenerate(id: string, answer: Message): Promise<void> {
    return this.branch(id, answer, (target) => ({ kind: "regenerate", target, clientMessageId: randomId() }));
  }

  /** Has an answer that was cut off gone on with. */
  continue(id: string, answer: Message): Promise<void> {
    return this.branch(id, answer, (target) => ({ kind: "continue", target, clientMessageId: randomId() }));
  }

  /** Asks once more for what did not get through, as the same turn. */
  async resend(id: string, message: Message, onConflict: OnConflict = "reject"): Promise<void> {
    if (message.turn) await this.begin(id, message.turn, onConflict);
  }

  discard(thread: string, message: Message): void {
    const { turn } = message;
    if (!turn) return;
    this.drafts.saveUnsent(thread, "");
    this.store.dispatch({ type: "turn_discarded", thread, turn });
    // What the turn would have taken the place of comes back.
    if (turn.kind !== "new") this.load(thread);
  }

  /** Shows another version of a message, with what followed it. Throws ProblemError. */
  async selectBranch(thread: string, messageId: string): Promise<void> {
    await this.api.selectBranch(thread, messageId);
    await this.load(thread);
  }

  private async branch(thread: string, message: Message, turn: (target: string) => Turn): Promise<void> {
    if (message.id !== null && !activeAnswer(this.thread(thread))) await this.begin(thread, turn(message.id));
  }

  private async begin(thread: string, turn: Turn, onConflict: OnConflict = "reject"): Promise<void> {
    // It has no id yet that a second message could go to.
    if (thread === NEW_THREAD && activeAnswer(this.thread(thread))) return;
    await this.turns.send(thread, turn, onConflict);
  }

  /** Stops the answer that is being written, or the one that waits. What has been written stays. */
  stop(thread: string, answer: Message | undefined = activeAnswer(this.thread(thread))): void {
    if (!answer || answer.stopping) return;
    this.store.dispatch({ type: "run_stopping", thread, answerKey: answer.key, stopping: true });
    if (answer.runId !== null) this.cancel(thread, answer.key, answer.runId);
    // A message that may or may not have arrived: sending it again later is the same run.
    else
      setTimeout(
        () => {
          if (this.message(thread, answer.key)?.runId === null) this.turns.abandon(answer.key);
        },
        answer.connection === "waiting" ? 0 : LAST_WORD_MS,
      );
  }

  private async cancel(thread: string, answerKey: string, runId: string): Promise<void> {
    if (this.cancelling.has(runId)) return;
    this.cancelling.add(runId);
    try {
      const { status } = await this.api.cancelRun(runId);
      // The end of one that waited is told only after those before it.
      if (isFinal(status) && !this.turns.follows(answerKey)) await this.load(thread);
    } catch (error) {
      this.store.dispatch({ type: "run_stopping", thread, answerKey, stopping: false });
      const { text } = explain(asProblem(error));
      this.store.dispatch({ type: "announced", text: `The answer could not be stopped. ${text}` });
      return;
    } finally {
      this.cancelling.delete(runId);
    }
    // The run's last event should be on its way; on a broken connection it is not.
    setTimeout(async () => {
      const isOver = (): boolean => {
        const answer = this.message(thread, answerKey);
        return this.disposed || !answer || !isLive(answer);
      };
      if (isOver()) return;
      if (this.turns.follows(answerKey)) this.turns.abandon(answerKey);
      else await this.load(thread);
      if (!isOver()) this.store.dispatch({ type: "run_stopping", thread, answerKey, stopping: false });
    }, LAST_WORD_MS);
  }

  async rename(conversation: Conversation, title: string): Promise<void> {
    this.store.dispatch({ type: "conversation_changed", conversation: { ...conversation, title } });
    try {
      this.store.dispatch({
        type: "conversation_changed",
        conversation: await this.api.renameConversation(conversation.id, title),
      });
    } catch (error) {
      this.store.dispatch({ type: "conversation_changed", conversation });
      throw error;
    }
  }

  /** Deletes for good. Throws ProblemError; one that is already gone counts as deleted. */
  async remove(id: string): Promise<void> {
    try {
      await this.api.deleteConversation(id);
    } catch (error) {
      if (asProblem(error).status !== 404) throw error;
    }
    for (const message of this.thread(id)?.messages ?? []) this.turns.abandon(message.key);
    this.live.forget(id);
    this.store.dispatch({ type: "conversation_removed", id });
  }

  private ended(thread: string, answerKey: string): void {
    const answer = this.message(thread, answerKey);
    // The next one of the conversation may come from anywhere.
    this.live.loaded(thread);
    this.budgets.used();
    if (!answer) return;
    this.store.dispatch({ type: "announced", text: wordsAtTheEnd(answer) });
    this.titles.expect(thread, titleOf(undefined, this.thread(thread)));
  }

  /** The conversation cannot be followed any more. */
  private lost(thread: string, problem: Problem): void {
    if (problem.code === "conversation_not_found") this.store.dispatch({ type: "thread_failed", thread, problem });
  }

  private thread(id: string): Thread | undefined {
    return this.store.get().threads[id];
  }

  private message(thread: string, key: string): Message | undefined {
    return this.thread(thread)?.messages.find((message) => message.key === key);
  }
}
