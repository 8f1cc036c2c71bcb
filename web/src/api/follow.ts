// Follows a run to its end over as many connections as it takes, never repeating and never losing an event.
import { codePoints } from "../chat/code-points";
import type { Api, StartRun } from "./client";
import { type Problem, ProblemError, problemOf } from "./problem";
import { readSse, SseParser } from "./sse";
import { parseRunEvent, type RunEvent } from "./types";

/** A run to start, or one that runs already and is to be seen from its first event. */
export type Source = { start: StartRun } | { runId: string };

export type Connection = "open" | "waiting";

export type Watcher = {
  /** Events that arrived together, in order, each exactly once. */
  events: (events: RunEvent[]) => void;
  /** All events will come again from the first; what they built so far is to be replaced. */
  replay: () => void;
  connection: (state: Connection) => void;
};

/** Why following ended: the run's last event was seen, or the server has its end but no events any more. */
export type Ending = "finished" | "gone";

type Timing = {
  firstDelayMs: number;
  maxDelayMs: number;
  /** Three missed heartbeats. */
  idleMs: number;
  /** Resolves after the time or as soon as trying again makes sense (the network is back). */
  wait: (ms: number, signal: AbortSignal) => Promise<void>;
};

export const TIMING: Timing = { firstDelayMs: 500, maxDelayMs: 10_000, idleMs: 45_000, wait: waitOrOnline };

/** Attempts to send a message before the person is asked; a resend is the same run, so it does no harm. */
const SEND_ATTEMPTS = 3;
/** Connections in a row that brought nothing before the run's state is asked for. */
const EMPTY_CONNECTIONS = 3;

/**
 * Throws ProblemError when the message could not be sent or the session is over, and whatever an abort throws.
 * Lost connections are not errors: it waits 0.5 s, doubling to 10 s (or as the server says), and goes on after the last event seen.
 */
export async function followRun(
  api: Pick<Api, "startRun" | "runEvents" | "run">,
  source: Source,
  watcher: Watcher,
  signal: AbortSignal,
  timing: Timing = TIMING,
): Promise<Ending> {
  const cursor = new Cursor("runId" in source ? source.runId : null);
  let firstDelay = timing.firstDelayMs;
  let failures = 0;
  while (true) {
    const before = cursor.lastSeq;
    let refusedUntil: number | null = null;
    try {
      const response =
        cursor.runId === null && "start" in source
          ? await api.startRun(source.start, signal)
          : await api.runEvents(cursor.runId ?? "", cursor.lastSeq, signal);
      // There is nothing after the cursor and never will be.
      if (response.status === 204) return "gone";
      watcher.connection("open");
      const parser = new SseParser();
      for await (const frames of readSse(bodyOf(response), parser, timing.idleMs)) {
        firstDelay = parser.retryMs ?? firstDelay;
        const events = cursor.accept(frames.map((frame) => parseRunEvent(frame.event, frame.data)));
        if (events.length > 0) watcher.events(events);
        if (cursor.ended) return "finished";
        if (cursor.gap) break;
      }
    } catch (error) {
      if (signal.aborted) throw error;
      const problem = error instanceof ProblemError ? error.problem : problemOf("network");
      if (cursor.runId === null) {
        if (problem.code !== "network" || failures + 1 >= SEND_ATTEMPTS) throw new ProblemError(problem);
      } else {
        if (problem.code === "signed_out" || problem.status === 401) throw new ProblemError(problem);
        if (isGone(problem)) return "gone";
      }
      refusedUntil = problem.retryAt;
    }
    if (signal.aborted) throw new DOMException("aborted", "AbortError");
    if (cursor.gap) {
      // Something was lost on the way: the log has it, so take it from the start.
      cursor.rewind();
      watcher.replay();
    }
    failures = cursor.lastSeq > before ? 0 : failures + 1;
    if (failures >= EMPTY_CONNECTIONS && cursor.runId !== null && (await hasEnded(api, cursor.runId))) return "gone";
    const backOff = Math.min(timing.maxDelayMs, firstDelay * 2 ** Math.max(0, failures - 1));
    watcher.connection("waiting");
    await timing.wait(refusedUntil === null ? backOff : Math.max(backOff, refusedUntil - Date.now()), signal);
  }
}

/** Where a client stands in a run's log. */
class Cursor {
  runId: string | null;
  lastSeq = 0;
  ended = false;
  gap = false;
  /** Code points of answer so far. */
  private length = 0;
  private mayRewind = true;

  constructor(runId: string | null) {
    this.runId = runId;
  }

  /** Returns the events that are new and stops before one that does not fit what came so far. */
  accept(events: (RunEvent | null)[]): RunEvent[] {
    const fresh: RunEvent[] = [];
    for (const event of events) {
      if (event === null) continue;
      this.runId ??= event.run_id;
      if (event.run_id !== this.runId || event.seq <= this.lastSeq || this.ended) continue;
      if (event.name === "text") {
        if (event.offset > this.length && this.mayRewind) {
          this.gap = true;
          return fresh;
        }
        this.length = event.offset + codePoints(event.delta);
      } else if (event.name === "reset") this.length = Math.min(this.length, event.offset);
      else if (event.name === "done" || event.name === "error") this.ended = true;
      this.lastSeq = event.seq;
      fresh.push(event);
    }
    return fresh;
  }

  /** Once only: a log that has a hole itself is shown as it is. */
  rewind(): void {
    this.gap = false;
    this.mayRewind = false;
    this.lastSeq = 0;
    this.length = 0;
  }
}

function bodyOf(response: Response): ReadableStream<Uint8Array> {
  const type = response.headers.get("content-type") ?? "";
  // A proxy's page, not a stream.
  if (!response.body || !type.startsWith("text/event-stream")) throw new ProblemError(problemOf("network"));
  return response.body;
}

/** A run or cursor the server does not know (any more): asking again would not change it. */
function isGone(problem: Problem): boolean {
  return problem.status === 404 || problem.status === 400 || problem.status === 403 || problem.status === 410;
}

async function hasEnded(api: Pick<Api, "run">, runId: string): Promise<boolean> {
  try {
    return (await api.run(runId)).status !== "running";
  } catch (error) {
    return error instanceof ProblemError && isGone(error.problem);
  }
}

function waitOrOnline(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (): void => {
      clearTimeout(timer);
      window.removeEventListener("online", finish);
      signal.removeEventListener("abort", abort);
      resolve();
    };
    const abort = (): void => {
      finish();
      reject(new DOMException("aborted", "AbortError"));
    };
    const timer = setTimeout(finish, ms);
    window.addEventListener("online", finish);
    signal.addEventListener("abort", abort);
  });
}
