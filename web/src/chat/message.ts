// One message as the page holds it, and what each event of a run does to the answer. Pure.
import type { Connection } from "../api/connection";
import { limitOf } from "../api/limit";
import { type Problem, problemOf } from "../api/problem";
import type { RunEvent, Usage, WireMessage } from "../api/types";
import { codePoints, cutAt } from "./code-points";
import { type Body, beforeStep, bodyOfParts, type Mark, withThought, withToolCall, withToolResult } from "./marks";
import type { Turn } from "./turn";

export type MessageState =
  | "sending"
  | "unsent"
  | "queued"
  | "streaming"
  | "complete"
  | "cancelled"
  | "failed"
  | "interrupted"
  | "limited";

export type Message = {
  /** Stays the same while the message goes from local to stored. */
  key: string;
  /** The server's id; null until it has one. */
  id: string | null;
  role: "user" | "assistant";
  text: string;
  /** Of `text`, in Unicode code points. */
  length: number;
  /** Thoughts and calls of tools, at their places in `text`. */
  marks: Mark[];
  /** What the run says that it is doing; "" when it says nothing. */
  progress: string;
  /** What was shown before all events came (again); shown until they have caught up. */
  floor: Body | null;
  state: MessageState;
  /** More has come than that the run is there: it does not wait in a queue. */
  begun: boolean;
  /** Somebody here has pressed Stop. */
  stopping: boolean;
  /** How what is being written reaches us. */
  connection: Connection;
  runId: string | null;
  lastSeq: number;
  model: string;
  usage: Usage | null;
  problem: Problem | null;
  /** Ids of all versions of this message, this one included, oldest first; empty while they are not known. */
  siblings: string[];
  /** The page's own id of the turn that made this message: sending again under it is the same run. */
  clientMessageId: string | null;
  /** What was asked for, so that it can be asked for again. */
  turn: Turn | null;
};

/** Whether more is to come. */
export function isLive({ role, state }: Message): boolean {
  return role === "assistant" && (state === "sending" || state === "queued" || state === "streaming");
}

/** What an event makes of the answer. `at` is the time it arrived, in milliseconds since the epoch. */
export function applyEvent(answer: Message, event: RunEvent, at: number): Message {
  const next: Message = { ...answer, lastSeq: event.seq };
  if (event.kind !== "run" && event.kind !== "user_message") {
    next.begun = true;
    if (next.state === "queued" || next.state === "sending") next.state = "streaming";
  }
  switch (event.kind) {
    case "run": {
      const state = next.state === "queued" ? next.state : "streaming";
      const siblings = withSelf(next.siblings, event.message_id);
      return { ...next, id: event.message_id, runId: event.run_id, model: event.model, state, siblings };
    }
    case "progress":
      return { ...next, progress: event.message };
    case "text":
      return withText(next, event);
    case "reasoning":
      return { ...next, progress: "", marks: withThought(next, event.delta) };
    case "tool_use":
      return { ...next, progress: "", marks: withToolCall(next, event.tool_call_id, event.name, event.input) };
    case "tool_result": {
      const result = { content: event.content, isError: event.is_error };
      return { ...next, progress: "", marks: withToolResult(next.marks, event.tool_call_id, result) };
    }
    case "reset": {
      const text = cutAt(next.text, event.offset);
      const marks = beforeStep(next.marks, event.step, text.length);
      return { ...next, text, length: Math.min(next.length, event.offset), marks, progress: "", floor: null };
    }
    case "usage": {
      const { kind: _kind, run_id: _run, seq: _seq, ...usage } = event;
      return { ...next, usage };
    }
    case "done": {
      const state = event.status === "completed" ? "complete" : event.status;
      const ended = state === "running" || state === "queued" ? "streaming" : state;
      return { ...next, ...OVER, state: ended, model: event.model || next.model };
    }
    case "error": {
      const retryAt = event.retry_after === undefined ? null : at + event.retry_after * 1000;
      const told = { detail: event.message, requestId: event.request_id, retryAt, limit: limitOf(event) };
      const problem = problemOf(event.code, told);
      // An answer that failed during a replay keeps what was stored of it.
      return { ...next, ...visibleBody(next), ...OVER, state: "failed", problem };
    }
    default:
      return next;
  }
}

/** How a run ended, for an answer that was loaded whole: of limits and reasons only the log speaks. */
export function applyEnd(answer: Message, event: RunEvent, at: number): Message {
  if (event.kind === "done" && event.status === "limited" && answer.state === "complete") {
    return { ...answer, state: "limited" };
  }
  if (event.kind === "error" && answer.state === "failed" && answer.problem === null) {
    const { problem } = applyEvent(answer, event, at);
    return { ...answer, problem: problem && { ...problem, retryAt: null } };
  }
  return answer;
}

/** What to show of an answer: never less than was shown before its events came (again), until its end is known. */
export function visibleBody({ text, marks, floor }: Pick<Message, "text" | "marks" | "floor">): Body {
  if (floor === null) return { text, marks };
  const behind = floor.text.length > text.length || (floor.text === text && floor.marks.length > marks.length);
  return behind ? floor : { text, marks };
}

/** Whatever stood from the offset on gives way to the new text. */
function withText(answer: Message, { offset, delta }: { offset: number; delta: string }): Message {
  if (offset >= answer.length) {
    return { ...answer, text: answer.text + delta, length: answer.length + codePoints(delta), progress: "" };
  }
  const kept = cutAt(answer.text, offset);
  const marks = answer.marks.filter((mark) => mark.at <= kept.length);
  return { ...answer, text: kept + delta, length: offset + codePoints(delta), marks, progress: "" };
}

const OVER = { floor: null, progress: "", stopping: false, connection: "open" } as const;

/** The answer as it is before its first event, when all of them will come (again). */
export function restart(answer: Message): Message {
  const cleared = { text: "", length: 0, marks: [], progress: "", lastSeq: 0, begun: false, usage: null };
  return { ...answer, ...cleared, floor: visibleBody(answer), state: "streaming" };
}

/** The answer as it goes on after its end: it is tried again. */
export function resume(answer: Message): Message {
  return isLive(answer) ? answer : { ...answer, ...OVER, state: "streaming", problem: null };
}

/** The answer as it stays when nothing more will come of it. */
export function leave(answer: Message, problem: Problem | null): Message {
  const state = isLive(answer) ? "interrupted" : answer.state;
  return { ...answer, ...visibleBody(answer), ...OVER, state, problem: problem ?? answer.problem };
}

/** Versions that were known before this message had an id now include it. */
export function withSelf(siblings: string[], id: string): string[] {
  return siblings.length === 0 || siblings.includes(id) ? siblings : [...siblings, id];
}

/** A stored message. */
export function fromWire(message: WireMessage, key: string = message.id): Message {
  const body = message.parts.length > 0 ? bodyOfParts(message.parts) : { text: message.content, marks: [] };
  return {
    ...localMessage(key, message.role, body),
    id: message.id,
    length: codePoints(body.text),
    state: message.state === "partial" ? "streaming" : message.state,
    begun: message.state !== "partial" || message.parts.length > 0,
    runId: message.run_id || null,
    model: message.model,
    usage: message.usage,
    siblings: message.sibling_ids ?? [],
  };
}

/** A message that the server has not seen yet. */
export function localMessage(key: string, role: Message["role"], more: Partial<Message>): Message {
  return {
    ...{ key, id: null, role, text: "", length: 0, marks: [], progress: "", floor: null },
    ...{ state: "sending", begun: false, stopping: false, connection: "open", runId: null, lastSeq: 0 },
    ...{ model: "", usage: null, problem: null, siblings: [], clientMessageId: null, turn: null },
    ...more,
  };
}
