// One message as the page holds it, and what each event of a run does to the answer. Pure.
import { type Problem, problemOf } from "../api/problem";
import type { RunEvent, Usage, WireMessage } from "../api/types";
import { codePoints, cutAt } from "./code-points";

export type MessageState =
  | "sending"
  | "unsent"
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
  /** What an earlier page load had already shown; shown until the replayed text has caught up. */
  floor: string | null;
  reasoning: string;
  state: MessageState;
  runId: string | null;
  lastSeq: number;
  model: string;
  usage: Usage | null;
  problem: Problem | null;
  /** The page's own id of a user's message: sending again under it is the same run. */
  clientMessageId: string | null;
};

/** What an event makes of the answer. `at` is the time it arrived, in milliseconds since the epoch. */
export function applyEvent(answer: Message, event: RunEvent, at: number): Message {
  const next: Message = { ...answer, lastSeq: event.seq };
  switch (event.name) {
    case "run":
      return { ...next, id: event.message_id, runId: event.run_id, model: event.model, state: "streaming" };
    case "text":
      return withText(
        next,
        (event.offset < next.length ? cutAt(next.text, event.offset) : next.text) + event.delta,
        event,
      );
    case "reasoning":
      return { ...next, reasoning: next.reasoning + event.delta };
    case "reset":
      return {
        ...next,
        text: cutAt(next.text, event.offset),
        length: Math.min(next.length, event.offset),
        floor: null,
      };
    case "usage": {
      const { name: _name, run_id: _run, seq: _seq, ...usage } = event;
      return { ...next, usage };
    }
    case "done": {
      const state = event.status === "completed" ? "complete" : event.status === "running" ? "streaming" : event.status;
      return { ...next, state, floor: null };
    }
    case "error": {
      const retryAt = event.retry_after === undefined ? null : at + event.retry_after * 1000;
      const problem = problemOf(event.code, { detail: event.message, requestId: event.request_id, retryAt });
      // An answer that failed during a replay keeps what was stored of it.
      return { ...next, text: visibleText(next), floor: null, state: "failed", problem };
    }
    default:
      return next;
  }
}

/** What to show of an answer: never less than an earlier page load had shown, until its end is known. */
export function visibleText(message: Message): string {
  return message.floor !== null && message.floor.length > message.text.length ? message.floor : message.text;
}

function withText(answer: Message, text: string, { offset, delta }: { offset: number; delta: string }): Message {
  return { ...answer, text, length: Math.min(answer.length, offset) + codePoints(delta) };
}

/** The answer as it is before its first event, when all of them will come (again). */
export function restart(answer: Message): Message {
  return {
    ...answer,
    text: "",
    length: 0,
    floor: visibleText(answer),
    reasoning: "",
    lastSeq: 0,
    state: "streaming",
    usage: null,
  };
}

/** A stored message. */
export function fromWire(message: WireMessage, key: string = message.id): Message {
  const reasoning = message.parts.filter((part) => part.type === "reasoning").map((part) => part.text ?? "");
  return {
    key,
    id: message.id,
    role: message.role,
    text: message.content,
    length: codePoints(message.content),
    floor: null,
    reasoning: reasoning.join(""),
    state: message.state === "partial" ? "streaming" : message.state,
    runId: message.run_id || null,
    lastSeq: 0,
    model: message.model,
    usage: message.usage,
    problem: null,
    clientMessageId: null,
  };
}

/** A message that the server has not seen yet. */
export function localMessage(key: string, role: Message["role"], more: Partial<Message>): Message {
  return {
    ...{
      key,
      id: null,
      role,
      text: "",
      length: 0,
      floor: null,
      reasoning: "",
      state: "sending",
      runId: null,
      lastSeq: 0,
    },
    ...{ model: "", usage: null, problem: null, clientMessageId: null },
    ...more,
  };
}
