// Titles that the server makes in the background: asked for a few times after the first answer, and made here should none come.
import type { Api } from "../api/client";
import type { ChatStore } from "./store";

/** Milliseconds after the end of an answer. */
const ATTEMPTS_MS = [700, 2000, 5000, 12_000];

export class Titles {
  private readonly api: Pick<Api, "conversation" | "renameConversation">;
  private readonly store: ChatStore;
  private readonly asking = new Map<string, ReturnType<typeof setTimeout>>();

  constructor(api: Pick<Api, "conversation" | "renameConversation">, store: ChatStore) {
    this.api = api;
    this.store = store;
  }

  dispose(): void {
    for (const timer of this.asking.values()) clearTimeout(timer);
  }

  /** To be called when an answer has ended. */
  expect(conversationId: string, firstWords: string): void {
    if (this.titled(conversationId) || this.asking.has(conversationId)) return;
    this.ask(conversationId, firstWords, 0);
  }

  private ask(id: string, firstWords: string, attempt: number): void {
    const at = ATTEMPTS_MS[attempt];
    if (at === undefined) return;
    const isLast = attempt === ATTEMPTS_MS.length - 1;
    const timer = setTimeout(
      async () => {
        try {
          let conversation = await this.api.conversation(id);
          // None is made of an answer that was stopped or failed.
          if (isLast && conversation.title === "") conversation = await this.api.renameConversation(id, firstWords);
          // Somebody may have named it here meanwhile, or deleted it.
          if (conversation.title !== "" && !this.titled(id)) {
            this.store.dispatch({ type: "conversation_changed", conversation });
          }
        } catch {
          // It is shown by its first words until then.
        }
        if (isLast || this.titled(id)) this.asking.delete(id);
        else this.ask(id, firstWords, attempt + 1);
      },
      at - (ATTEMPTS_MS[attempt - 1] ?? 0),
    );
    this.asking.set(id, timer);
  }

  private titled(id: string): boolean {
    const known = this.store.get().list.items.find((item) => item.id === id);
    return known === undefined || known.title !== "";
  }
}
