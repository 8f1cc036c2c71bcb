// Holds the state and tells who listens when it has changed.
import { type ChatAction, type ChatState, INITIAL, reduce } from "./state";

export class ChatStore {
  private state: ChatState = INITIAL;
  private readonly listeners = new Set<() => void>();

  get = (): ChatState => this.state;

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  dispatch = (action: ChatAction): void => {
    const next = reduce(this.state, action);
    if (next === this.state) return;
    this.state = next;
    for (const listener of this.listeners) listener();
  };
}
