// Follows all runs of a conversation for as long as it is open, whoever starts them, over as many connections as it takes.
import type { Api } from "./client";
import { backOff, bodyOf, type Connection, isSignedOut, TIMING, type Timing } from "./connection";
import { LogCursor } from "./log-cursor";
import { type Problem, ProblemError, problemOf } from "./problem";
import { readSse, SseParser } from "./sse";
import { parseRunEvent, type RunEvent } from "./types";

export type FeedWatcher = {
  /** Events of one run that arrived together, in order, each exactly once. */
  events: (runId: string, events: RunEvent[]) => void;
  /** All events of this run will come again from its first; what they built so far is to be replaced. */
  replay: (runId: string) => void;
  /** A run that had ended is tried again: what comes next goes on from there. */
  resume: (runId: string) => void;
  connection: (state: Connection) => void;
};

/** Why it ended: the server does not know where we stood (begin anew with what is stored), or the conversation is not there. */
export type FeedEnding = { kind: "lost" } | { kind: "gone"; problem: Problem };

/** Ended runs whose place is remembered, so that what comes again of them is known. */
const REMEMBERED = 100;
/** A connection that has lasted this long was a good one. */
const SETTLED_MS = 5000;

/** Where we stand in the runs of a conversation; it outlives the following, which can go on from it later. */
export class FeedPlace {
  private readonly cursors = new Map<string, LogCursor>();
  private readonly from: string;

  /** `from` is `<run id>:<seq>`, the last event known of a run, or "" for the runs that are active now and all later ones. */
  constructor(from: string) {
    this.from = from;
  }

  of(runId: string): LogCursor {
    const known = this.cursors.get(runId);
    if (known) return known;
    const cursor = new LogCursor();
    this.cursors.set(runId, cursor);
    for (const [id, { ended }] of this.cursors) {
      if (this.cursors.size <= REMEMBERED) break;
      if (ended) this.cursors.delete(id);
    }
    return cursor;
  }

  /** After this nothing has been missed: the oldest run that goes on, or the newest one. What comes twice is left out by its number. */
  position(): string {
    const all = [...this.cursors];
    const found = all.find(([, cursor]) => !cursor.ended) ?? all.at(-1);
    return found ? `${found[0]}:${found[1].lastSeq}` : this.from;
  }
}

/**
 * Never ends by itself while the conversation is there; abort it.
 *
 * Throws ProblemError when the session is over, and whatever an abort throws.
 */
export async function followConversation(
  api: Pick<Api, "conversationEvents">,
  conversationId: string,
  place: FeedPlace,
  watcher: FeedWatcher,
  signal: AbortSignal,
  timing: Timing = TIMING,
): Promise<FeedEnding> {
  let firstDelay = timing.firstDelayMs;
  let failures = 0;
  while (true) {
    let heard = false;
    let opened = Number.POSITIVE_INFINITY;
    let notBefore: number | null = null;
    const position = place.position();
    try {
      const response = await api.conversationEvents(conversationId, position, signal);
      opened = Date.now();
      watcher.connection("open");
      const parser = new SseParser();
      for await (const frames of readSse(bodyOf(response), parser, timing)) {
        heard = true;
        let gap = false;
        for (const [runId, events] of byRun(frames.map((frame) => parseRunEvent(frame.event, frame.data)))) {
          const cursor = place.of(runId);
          let fresh = cursor.accept(events);
          if (fresh.length > 0) watcher.events(runId, fresh);
          while (cursor.resumed) {
            cursor.resume();
            watcher.resume(runId);
            fresh = cursor.accept(events);
            if (fresh.length > 0) watcher.events(runId, fresh);
          }
          if (!cursor.gap) continue;
          cursor.rewind();
          watcher.replay(runId);
          gap = true;
        }
        if (gap) break;
      }
      firstDelay = parser.retryMs ?? firstDelay;
    } catch (error) {
      if (signal.aborted) throw error;
      const problem = error instanceof ProblemError ? error.problem : problemOf("network");
      if (isSignedOut(problem)) throw new ProblemError(problem);
      if (isRefusal(problem))
        return position !== "" && isCursor(problem) ? { kind: "lost" } : { kind: "gone", problem };
      notBefore = problem.retryAt;
    }
    if (signal.aborted) throw new DOMException("aborted", "AbortError");
    // Silence is a good connection's right, so its age counts too.
    failures = heard || Date.now() - opened > SETTLED_MS ? 0 : failures + 1;
    watcher.connection("waiting");
    await timing.wait(backOff(timing, firstDelay, failures, notBefore), signal);
  }
}

function byRun(events: (RunEvent | null)[]): Map<string, RunEvent[]> {
  const runs = new Map<string, RunEvent[]>();
  for (const event of events) {
    if (event === null) continue;
    const known = runs.get(event.run_id);
    if (known) known.push(event);
    else runs.set(event.run_id, [event]);
  }
  return runs;
}

/** Asking the same again would be answered the same. */
function isRefusal({ status, code }: Problem): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 425 && status !== 429 && code !== "network";
}

function isCursor({ code }: Problem): boolean {
  return code !== "conversation_not_found";
}
