// Which conversation the address names: `#/c/<id>`, anything else is a new one.
import { useSyncExternalStore } from "react";
import { NEW_THREAD } from "../chat/state";

function read(): string {
  const match = /^#\/c\/([^/]+)$/.exec(window.location.hash);
  if (!match) return NEW_THREAD;
  try {
    return decodeURIComponent(match[1] ?? "") || NEW_THREAD;
  } catch {
    return NEW_THREAD;
  }
}

function subscribe(listener: () => void): () => void {
  window.addEventListener("hashchange", listener);
  return () => window.removeEventListener("hashchange", listener);
}

/** The id of the open conversation or NEW_THREAD. */
export function useRoute(): string {
  return useSyncExternalStore(subscribe, read);
}

export function pathOf(thread: string): string {
  return thread === NEW_THREAD ? "#/" : `#/c/${encodeURIComponent(thread)}`;
}

export function go(thread: string): void {
  window.location.hash = pathOf(thread);
}

/** Gives the address of a new conversation its id, unless the person has gone elsewhere meanwhile. */
export function adoptRoute(id: string): void {
  if (read() === NEW_THREAD) window.location.replace(pathOf(id));
}
