// Where a client stands in a run's log.
import { codePoints } from "../chat/code-points";
import type { RunEvent } from "./types";

/** Lets each event of one run through once and in order, and notices where a piece of the answer is missing. */
export class LogCursor {
  lastSeq = 0;
  /** The run's last event has come. */
  ended = false;
  /** An event has come after the last one: the run is tried again, and its log goes on. */
  resumed = false;
  /** An event did not fit what came so far: the log must be read again from its start. */
  gap = false;
  /** Code points of answer so far. */
  private length = 0;
  private mayRewind = true;

  /** Returns the events that are new and stops before one that does not fit what came so far, or comes after the last one. */
  accept(events: RunEvent[]): RunEvent[] {
    const fresh: RunEvent[] = [];
    for (const event of events) {
      if (this.gap || event.seq <= this.lastSeq) continue;
      if (this.ended) {
        this.resumed = true;
        return fresh;
      }
      if (event.kind === "text") {
        if (event.offset > this.length && this.mayRewind) {
          this.gap = true;
          return fresh;
        }
        this.length = event.offset + codePoints(event.delta);
      } else if (event.kind === "reset") this.length = Math.min(this.length, event.offset);
      else if (event.kind === "done" || event.kind === "error") this.ended = true;
      this.lastSeq = event.seq;
      fresh.push(event);
    }
    return fresh;
  }

  /** Takes what comes after the last event. */
  resume(): void {
    this.resumed = false;
    this.ended = false;
  }

  /** Once only: a log that has a hole itself is shown as it is. */
  rewind(): void {
    this.gap = false;
    this.mayRewind = false;
    this.lastSeq = 0;
    this.length = 0;
  }
}
