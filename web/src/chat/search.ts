// Looks for words in conversations while they are typed.
import type { Api } from "../api/client";
import { asProblem } from "../api/problem";
import type { ChatStore } from "./store";

/** Milliseconds of no typing before the server is asked. */
const PAUSE_MS = 200;

export class Search {
  private readonly api: Pick<Api, "search">;
  private readonly store: ChatStore;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private asking = new AbortController();

  constructor(api: Pick<Api, "search">, store: ChatStore) {
    this.api = api;
    this.store = store;
  }

  dispose(): void {
    clearTimeout(this.timer);
    this.asking.abort();
  }

  /** Finds what has these words; none show the list again. */
  find(words: string): void {
    this.dispose();
    this.store.dispatch({ type: "search_changed", words });
    if (words !== "") this.timer = setTimeout(() => this.ask(words, ""), PAUSE_MS);
  }

  async more(): Promise<void> {
    const found = this.store.get().search;
    if (found?.status !== "ready" || found.nextToken === "") return;
    await this.ask(found.words, found.nextToken);
  }

  private async ask(words: string, pageToken: string): Promise<void> {
    this.asking.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const append = pageToken !== "";
    try {
      const { items, nextPageToken: nextToken } = await this.api.search(words, pageToken, signal);
      this.store.dispatch({ type: "search_found", words, items, nextToken, append });
      if (append) return;
      const count = nextToken === "" ? String(items.length) : `More than ${items.length}`;
      const text = items.length === 0 ? "Nothing found." : `${count} found.`;
      this.store.dispatch({ type: "announced", text });
    } catch (error) {
      if (!signal.aborted) this.store.dispatch({ type: "search_failed", words, problem: asProblem(error) });
    }
  }
}
