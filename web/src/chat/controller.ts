// What a person can do with their conversations: each deed talks to the server and tells the store what came of it.
import type { Api, StartRun } from "../api/client";
import { followRun, type Source } from "../api/follow";
import { asProblem, explain, ProblemError, problemOf } from "../api/problem";
import type { Conversation, RunEvent } from "../api/types";
import { plainText } from "../markdown/plain-text";
import type { Drafts } from "./drafts";
import { FrameBatch } from "./frames";
import { type Message, visibleText } from "./message";
import { randomId } from "./random-id";
import { NEW_THREAD, type Thread } from "./state";
import type { ChatStore } from "./store";
import { firstWords } from "./title";

/** How long a stopped run may take to say its last word before the page asks for what is stored. */
const LAST_WORD_MS = 3000;

/** Characters of an answer that are announced: longer ones are read on the page, at the reader's own pace. */
const READ_ALOUD = 4000;

export class ChatController {
  readonly store: ChatStore;
  private readonly api: Api;
  private readonly drafts: Drafts;
  private readonly onAdopted: (conversationId: string) => void;
  private readonly following = new Map<string, AbortController>();
  private readonly cancelling = new Set<string>();
  private disposed = false;

  /** `onAdopted` is told the id that the new conversation got, once, when its first message is sent. */
  constructor(api: Api, store: ChatStore, drafts: Drafts, onAdopted: (conversationId: string) => void) {
    this.api = api;
    this.drafts = drafts;
    this.store = store;
    this.onAdopted = onAdopted;
  }

  /** Stops watching; the runs go on at the server. */
  dispose(): void {
    this.disposed = true;
    for (const abort of this.following.values()) abort.abort();
  }

  async loadConversations(): Promise<void> {
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
    if (this.thread(NEW_THREAD)?.active) return;
    this.store.dispatch({ type: "thread_started", viewKey: randomId() });
  }

  /** Shows a conversation: its newest messages, and the rest of an answer that is still being written. */
  async open(id: string): Promise<void> {
    if (this.thread(id)?.active) return;
    this.store.dispatch({ type: "thread_loading", thread: id, viewKey: randomId() });
    try {
      const page = await this.api.messages(id, "");
      if (this.disposed) return;
      this.store.dispatch({ type: "thread_loaded", thread: id, messages: page.items, olderToken: page.nextPageToken });
    } catch (error) {
      this.store.dispatch({ type: "thread_failed", thread: id, problem: asProblem(error) });
      return;
    }
    if (!this.store.get().list.items.some((item) => item.id === id)) this.learnConversation(id);
    if (this.thread(id)?.active) return;
    const last = this.thread(id)?.messages.at(-1);
    if (last?.role !== "assistant" || last.runId === null) return;
    if (last.state === "streaming") this.watch(id, last, last.runId);
    else if (last.state === "failed" && last.problem === null) this.learnFailure(id, last, last.runId);
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

  /** Where the server chose the model, the run says which when it is over. */
  private async learnModel(thread: string, { key }: Message, runId: string): Promise<void> {
    try {
      const { model } = await this.api.run(runId);
      this.store.dispatch({ type: "answer_model", thread, answerKey: key, model });
    } catch {
      // The answer is whole without it.
    }
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
    return this.sendAs(id, text, randomId());
  }

  /** Sends a message that did not get through once more, as the same one. */
  async resend(id: string, message: Message): Promise<void> {
    if (message.clientMessageId) await this.sendAs(id, message.text, message.clientMessageId);
  }

  discard(thread: string, message: Message): void {
    this.drafts.saveUnsent(thread, "");
    if (message.clientMessageId)
      this.store.dispatch({ type: "message_discarded", thread, clientMessageId: message.clientMessageId });
  }

  private async sendAs(thread: string, text: string, clientMessageId: string): Promise<void> {
    if (this.thread(thread)?.active) return;
    const answerKey = randomId();
    this.drafts.saveUnsent(thread, "");
    this.store.dispatch({ type: "message_sent", thread, text, clientMessageId, answerKey });
    const abort = new AbortController();
    this.following.set(answerKey, abort);
    let conversationId = thread;
    try {
      if (thread === NEW_THREAD) conversationId = await this.adopt(text);
      else this.store.dispatch({ type: "conversation_touched", id: thread, at: new Date().toISOString() });
      abort.signal.throwIfAborted();
      const start: StartRun = { conversationId, message: text, clientMessageId };
      await this.follow(conversationId, answerKey, { start }, abort.signal);
    } catch (error) {
      if (this.disposed) return;
      const answer = this.message(conversationId, answerKey);
      if (answer && answer.runId !== null) this.leave(conversationId, answerKey, error);
      else {
        const problem = abort.signal.aborted ? problemOf("not_sent") : asProblem(error);
        // A reload or the sign-in form may be next: the words must not be lost.
        this.drafts.saveUnsent(conversationId, text);
        this.store.dispatch({ type: "message_unsent", thread: conversationId, clientMessageId, problem });
      }
    } finally {
      this.following.delete(answerKey);
    }
  }

  /** Gives the new thread its conversation. */
  private async adopt(text: string): Promise<string> {
    const conversation = await this.api.createConversation(firstWords(text));
    if (this.disposed) throw new ProblemError(problemOf("signed_out"));
    this.store.dispatch({ type: "thread_adopted", conversation });
    this.onAdopted(conversation.id);
    return conversation.id;
  }

  private async watch(thread: string, answer: Message, runId: string): Promise<void> {
    const abort = new AbortController();
    this.following.set(answer.key, abort);
    this.store.dispatch({ type: "run_watched", thread, answerKey: answer.key, runId });
    try {
      await this.follow(thread, answer.key, { runId }, abort.signal);
    } catch (error) {
      if (!this.disposed) this.leave(thread, answer.key, error);
    } finally {
      this.following.delete(answer.key);
    }
  }

  private async follow(thread: string, answerKey: string, source: Source, signal: AbortSignal): Promise<void> {
    const batch = new FrameBatch<RunEvent>((events) => {
      if (!this.disposed) this.store.dispatch({ type: "run_events", thread, answerKey, events, at: Date.now() });
    });
    const watcher = {
      events: (events: RunEvent[]) => {
        batch.add(events);
        const first = events[0];
        // Stop was pressed before the run had an id.
        if (first && this.thread(thread)?.active?.stopping) this.cancel(thread, answerKey, first.run_id);
      },
      replay: () => {
        batch.flush();
        this.store.dispatch({ type: "run_replayed", thread, answerKey });
      },
      connection: (connection: "open" | "waiting") =>
        this.store.dispatch({ type: "run_connection", thread, connection }),
    };
    try {
      const ending = await followRun(this.api, source, watcher, signal);
      batch.flush();
      if (ending === "gone") await this.fetchStored(thread, answerKey);
    } finally {
      batch.flush();
    }
    const answer = this.message(thread, answerKey);
    this.announceEnd(answer);
    if (answer?.state === "complete" && answer.model === "" && answer.runId)
      this.learnModel(thread, answer, answer.runId);
  }

  /** The log is no longer there: what is stored is the answer. */
  private async fetchStored(thread: string, answerKey: string): Promise<void> {
    const page = await this.api.messages(thread, "");
    this.store.dispatch({ type: "run_left", thread, problem: null });
    this.store.dispatch({ type: "thread_loaded", thread, messages: page.items, olderToken: page.nextPageToken });
    const answer = this.message(thread, answerKey);
    if (answer?.state !== "streaming") return;
    this.store.dispatch({ type: "answer_left", thread, answerKey, problem: problemOf("gone") });
  }

  private leave(thread: string, answerKey: string, error: unknown): void {
    const stopped = this.following.get(answerKey)?.signal.aborted ?? false;
    this.store.dispatch({ type: "run_left", thread, problem: stopped ? null : asProblem(error) });
  }

  /** Stops the answer that is being written. What has been written stays. */
  stop(thread: string): void {
    const active = this.thread(thread)?.active;
    if (!active || active.stopping) return;
    this.store.dispatch({ type: "run_stopping", thread, stopping: true });
    if (active.runId !== null) this.cancel(thread, active.answerKey, active.runId);
    else
      setTimeout(
        () => this.giveUpSending(thread, active.answerKey),
        active.connection === "waiting" ? 0 : LAST_WORD_MS,
      );
  }

  /** A message that may or may not have arrived: sending it again later is the same run. */
  private giveUpSending(thread: string, answerKey: string): void {
    const active = this.thread(thread)?.active;
    if (active?.answerKey === answerKey && active.runId === null) this.following.get(answerKey)?.abort();
  }

  private async cancel(thread: string, answerKey: string, runId: string): Promise<void> {
    if (this.cancelling.has(answerKey)) return;
    this.cancelling.add(answerKey);
    try {
      await this.api.cancelRun(runId);
    } catch (error) {
      this.cancelling.delete(answerKey);
      this.store.dispatch({ type: "run_stopping", thread, stopping: false });
      const { text } = explain(asProblem(error));
      this.store.dispatch({ type: "announced", text: `The answer could not be stopped. ${text}` });
      return;
    }
    // The run's last event should be on its way; on a broken connection it is not.
    setTimeout(() => {
      if (this.thread(thread)?.active?.answerKey !== answerKey || this.disposed) return;
      this.following.get(answerKey)?.abort();
      this.store.dispatch({ type: "run_left", thread, problem: null });
      this.open(thread);
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
    const active = this.thread(id)?.active;
    if (active) this.following.get(active.answerKey)?.abort();
    this.store.dispatch({ type: "conversation_removed", id });
  }

  private announceEnd(answer: Message | undefined): void {
    if (!answer) return;
    const whole = visibleText(answer);
    const text =
      plainText(whole.slice(0, READ_ALOUD)) + (whole.length > READ_ALOUD ? "… The whole answer is on the page." : "");
    const said = {
      cancelled: `Stopped. ${text}`,
      failed: `${text} ${answer.problem ? explain(answer.problem).text : ""}`,
      interrupted: `The answer was cut off. ${text}`,
    } as Record<string, string>;
    this.store.dispatch({ type: "announced", text: said[answer.state] ?? `Parley: ${text}` });
  }

  private thread(id: string): Thread | undefined {
    return this.store.get().threads[id];
  }

  private message(thread: string, key: string): Message | undefined {
    return this.thread(thread)?.messages.find((message) => message.key === key);
  }
}
