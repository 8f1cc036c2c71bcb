// What has been typed and not sent, per conversation, for as long as the tab lives.

const PREFIX = "parley.draft.";

export class Drafts {
  private readonly storage: Storage;
  private readonly prefix: string;

  constructor(storage: Storage, userId: string) {
    this.storage = storage;
    this.prefix = `${PREFIX}${userId}.`;
  }

  read(thread: string): string {
    return this.storage.getItem(this.prefix + thread) ?? "";
  }

  save(thread: string, text: string): void {
    if (text === "") this.storage.removeItem(this.prefix + thread);
    else this.storage.setItem(this.prefix + thread, text);
  }

  /** Forgets everything typed, as a sign-out must. */
  clear(): void {
    for (const key of Object.keys(this.storage)) {
      if (key.startsWith(this.prefix)) this.storage.removeItem(key);
    }
  }
}
