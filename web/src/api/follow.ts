// Follows a run to its end over as many connections as it takes, never repeating and never losing an event.
import type { Api, StartRun } from "./client";
import { backOff, bodyOf, type Connection, isSignedOut, TIMING, type Timing } from "./connection";
import { LogCursor } from "./log-cursor";
import { type Problem, ProblemError, problemOf } from "./problem";
import { readSse, SseParser } from "./sse";
import { isFinal, parseRunEvent, type RunEvent } from "./types";

export type Watcher = {
  /** Events that arrived together, in order, each exactly once. */
  events: (events: RunEvent[]) => void;
  /** All events will come again from the first; what they built so far is to be replaced. */
  replay: () => void;
  connection: (state: Connection) => void;
};

/** Why following ended: the run's last event was seen, or the server has its end but no events any more. */
export type Ending = "finished" | "gone";

/** Attempts to send a message before the person is asked; a resend is the same run, so it does no harm. */
const SEND_ATTEMPTS = 3;
/** Connections in a row that brought nothing before the run's state is asked for. */
const EMPTY_CONNECTIONS = 3;

/**
 * Starts a run and follows it.
 *
 * Throws ProblemError when the turn could not be sent or the session is over, and whatever an abort throws.
 * Lost connections are not errors: it waits 0.5 s, doubling to 10 s (or as the server says), and goes on after the last event seen.
 */
export async function followRun(
  api: Pick<Api, "startRun" | "runEvents" | "run">,
  start: StartRun,
  watcher: Watcher,
  signal: AbortSignal,
  timing: Timing = TIMING,
): Promise<Ending> {
  const cursor = new LogCursor();
  let runId: string | null = null;
  let firstDelay = timing.firstDelayMs;
  let failures = 0;
  while (true) {
    const before = cursor.lastSeq;
    let notBefore: number | null = null;
    try {
      const response: Response =
        runId === null ? await api.startRun(start, signal) : await api.runEvents(runId, cursor.lastSeq, signal);
      // There is nothing after the cursor and never will be.
      if (response.status === 204) return "gone";
      watcher.connection("open");
      const parser = new SseParser();
      for await (const frames of readSse(bodyOf(response), parser, timing)) {
        const parsed = frames.map((frame) => parseRunEvent(frame.event, frame.data)).filter((event) => event !== null);
        runId ??= parsed[0]?.run_id ?? null;
        const events = cursor.accept(parsed.filter((event) => event.run_id === runId));
        if (events.length > 0) watcher.events(events);
        if (cursor.ended) return "finished";
        if (cursor.gap) break;
      }
      firstDelay = parser.retryMs ?? firstDelay;
    } catch (error) {
      if (signal.aborted) throw error;
      const problem = error instanceof ProblemError ? error.problem : problemOf("network");
      if (runId === null) {
        if (problem.code !== "network" || failures + 1 >= SEND_ATTEMPTS) throw new ProblemError(problem);
      } else {
        if (isSignedOut(problem)) throw new ProblemError(problem);
        if (isGone(problem)) return "gone";
      }
      notBefore = problem.retryAt;
    }
    if (signal.aborted) throw new DOMException("aborted", "AbortError");
    if (cursor.gap) {
      // Something was lost on the way: the log has it, so take it from the start.
      cursor.rewind();
      watcher.replay();
    }
    failures = cursor.lastSeq > before ? 0 : failures + 1;
    if (failures >= EMPTY_CONNECTIONS && runId !== null && (await hasEnded(api, runId))) return "gone";
    watcher.connection("waiting");
    await timing.wait(backOff(timing, firstDelay, failures, notBefore), signal);
  }
}

/** A run or cursor the server does not know (any more): asking again would not change it. */
function isGone(problem: Problem): boolean {
  return problem.status === 404 || problem.status === 400 || problem.status === 403 || problem.status === 410;
}

async function hasEnded(api: Pick<Api, "run">, runId: string): Promise<boolean> {
  try {
    return isFinal((await api.run(runId)).status);
  } catch (error) {
    return error instanceof ProblemError && isGone(error.problem);
  }
}
