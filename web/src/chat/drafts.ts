// What has been typed and has not reached the server, per conversation, for as long as the tab lives.

const PREFIX = "parley.draft.";
const UNSENT = "parley.unsent.";

export class Drafts {
  private readonly storage: Storage;
  private readonly userId: string;

  constructor(storage: Storage, userId: string) {
    this.storage = storage;
    this.userId = userId;
    this.restoreUnsent();
  }

  read(thread: string): string {
    return this.storage.getItem(this.key(PREFIX, thread)) ?? "";
  }

  save(thread: string, text: string): void {
    this.write(this.key(PREFIX, thread), text);
  }

  /** Remembers a message that could not be sent; "" when it has been or is not wanted any more. */
  saveUnsent(thread: string, text: string): void {
    this.write(this.key(UNSENT, thread), text);
  }

  /** Forgets everything typed, as a sign-out must. */
  clear(): void {
    for (const key of Object.keys(this.storage)) {
      if (key.startsWith(this.key(PREFIX, "")) || key.startsWith(this.key(UNSENT, ""))) this.storage.removeItem(key);
    }
  }

  /** What could not be sent before the page was loaded again waits where it was typed. */
  private restoreUnsent(): void {
    const prefix = this.key(UNSENT, "");
    for (const key of Object.keys(this.storage)) {
      if (!key.startsWith(prefix)) continue;
      const thread = key.slice(prefix.length);
      this.save(thread, [this.storage.getItem(key), this.read(thread)].filter(Boolean).join("\n\n"));
      this.storage.removeItem(key);
    }
  }

  private key(prefix: string, thread: string): string {
    return `${prefix}${this.userId}.${thread}`;
  }

  private write(key: string, text: string): void {
    if (text === "") this.storage.removeItem(key);
    else this.storage.setItem(key, text);
  }
}
