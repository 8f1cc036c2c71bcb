// Colours for code, loaded when the first code block is drawn.
import type { Root } from "hast";
import { useSyncExternalStore } from "react";

/** Code to coloured spans; null for a language it does not know. */
export type Highlight = (language: string, code: string) => Root | null;

let loaded: Highlight | null = null;
let asked = false;
const listeners = new Set<() => void>();

async function load(): Promise<void> {
  try {
    loaded = (await import("./languages")).highlight;
    for (const listener of listeners) listener();
  } catch {
    // Code without colours is still code; the next page load tries again.
  }
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  if (!asked) {
    asked = true;
    load();
  }
  return () => listeners.delete(listener);
}

/** The highlighter once it has been loaded. */
export function useHighlight(): Highlight | null {
  return useSyncExternalStore(subscribe, () => loaded);
}
