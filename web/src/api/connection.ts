// What every long-lived stream needs: when to try again, when a silent connection is dead, when the network is back.
import { type Problem, ProblemError, problemOf } from "./problem";

export type Connection = "open" | "waiting";

export type Timing = {
  firstDelayMs: number;
  maxDelayMs: number;
  /** Silence after which a connection counts as dead: three missed heartbeats. */
  idleMs: number;
  /** The same where the machine may have slept, which stops no clock but every timer: one missed heartbeat. */
  wokenIdleMs: number;
  /** Resolves after the time or as soon as trying again makes sense. Rejects when aborted. */
  wait: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Tells when the tab or the network wakes; returns how to stop listening. */
  onWake: (listener: () => void) => () => void;
};

export const TIMING: Timing = {
  firstDelayMs: 500,
  maxDelayMs: 10_000,
  idleMs: 45_000,
  wokenIdleMs: 20_000,
  wait: waitOrWake,
  onWake,
};

/** The wait before attempt `failures` + 1: it doubles up to its limit, and is never shorter than the server asked for. */
export function backOff(timing: Timing, firstDelayMs: number, failures: number, notBefore: number | null): number {
  const wait = Math.min(timing.maxDelayMs, firstDelayMs * 2 ** Math.max(0, failures - 1));
  return notBefore === null ? wait : Math.max(wait, notBefore - Date.now());
}

/** The stream of events in an answer. Throws ProblemError for an answer that is something else, such as a proxy's page. */
export function bodyOf(response: Response): ReadableStream<Uint8Array> {
  const type = response.headers.get("content-type") ?? "";
  if (!response.body || !type.startsWith("text/event-stream")) throw new ProblemError(problemOf("network"));
  return response.body;
}

/** The session is over: no attempt will bring more. */
export function isSignedOut(problem: Problem): boolean {
  return problem.code === "signed_out" || problem.status === 401;
}

function onWake(listener: () => void): () => void {
  const shown = (): void => {
    if (!document.hidden) listener();
  };
  document.addEventListener("visibilitychange", shown);
  window.addEventListener("online", listener);
  return () => {
    document.removeEventListener("visibilitychange", shown);
    window.removeEventListener("online", listener);
  };
}

function waitOrWake(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (): void => {
      clearTimeout(timer);
      sleep();
      signal.removeEventListener("abort", abort);
      resolve();
    };
    const abort = (): void => {
      finish();
      reject(new DOMException("aborted", "AbortError"));
    };
    const timer = setTimeout(finish, ms);
    const sleep = onWake(finish);
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
  });
}
