// What stands between the words of an answer: thoughts and calls of tools, each at its place in the text. Pure.
import type { WirePart } from "../api/types";

type Placed = {
  /** Place in the answer's text, in UTF-16 units. */
  at: number;
  /** The model call it belongs to, from 1. */
  step: number;
};

export type Thought = Placed & { kind: "thought"; text: string };

export type ToolCall = Placed & {
  kind: "tool";
  id: string;
  name: string;
  input: unknown;
  /** Null until the tool has answered. */
  result: { content: string; isError: boolean } | null;
};

export type Mark = Thought | ToolCall;

/** The words and the marks of an answer. */
export type Body = { text: string; marks: Mark[] };

/** The model call that is under way: a step is over when all tools it called have answered. */
export function currentStep(marks: Mark[]): number {
  const last = marks.at(-1)?.step ?? 1;
  const tools = marks.filter((mark): mark is ToolCall => mark.kind === "tool" && mark.step === last);
  return tools.length > 0 && tools.every((tool) => tool.result !== null) ? last + 1 : last;
}

/** Reasoning joins the thought it goes on with. */
export function withThought({ text, marks }: Body, delta: string): Mark[] {
  const step = currentStep(marks);
  const last = marks.at(-1);
  if (last?.kind === "thought" && last.step === step && last.at === text.length) {
    return [...marks.slice(0, -1), { ...last, text: last.text + delta }];
  }
  return [...marks, { kind: "thought", at: text.length, step, text: delta }];
}

/** A call that is there already is told again by a snapshot: it changes nothing. */
export function withToolCall({ text, marks }: Body, id: string, name: string, input: unknown): Mark[] {
  if (marks.some((mark) => mark.kind === "tool" && mark.id === id)) return marks;
  return [...marks, { kind: "tool", at: text.length, step: currentStep(marks), id, name, input, result: null }];
}

export function withToolResult(marks: Mark[], id: string, result: NonNullable<ToolCall["result"]>): Mark[] {
  return marks.map((mark) => (mark.kind === "tool" && mark.id === id ? { ...mark, result } : mark));
}

/** What still counts when a step begins anew and the text has been cut to `length` UTF-16 units. */
export function beforeStep(marks: Mark[], step: number, length: number): Mark[] {
  const open = currentStep(marks);
  return marks.filter((mark) => mark.step < step && mark.step < open && mark.at <= length);
}

/** A stored message's words and marks. */
export function bodyOfParts(parts: WirePart[]): Body {
  const body: Body = { text: "", marks: [] };
  for (const part of parts) {
    if (part.type === "text") body.text += part.text;
    else if (part.type === "reasoning") body.marks = withThought(body, part.text);
    else if (part.type === "tool_use") body.marks = withToolCall(body, part.tool_call_id, part.name, part.input);
    else if (part.type === "tool_result") {
      const result = { content: part.content, isError: part.is_error };
      body.marks = withToolResult(body.marks, part.tool_call_id, result);
    }
  }
  return body;
}

/** What to draw, in order: text between marks, and marks that stand at the same place together. */
export type Piece =
  | { kind: "text"; at: number; text: string }
  | { kind: "thought"; at: number; text: string }
  | { kind: "tools"; at: number; calls: ToolCall[] };

export function piecesOf({ text, marks }: Body): Piece[] {
  const pieces: Piece[] = [];
  let from = 0;
  for (const mark of marks) {
    if (mark.at > from) pieces.push({ kind: "text", at: from, text: text.slice(from, mark.at) });
    from = Math.max(from, mark.at);
    const last = pieces.at(-1);
    if (mark.kind === "thought") pieces.push({ kind: "thought", at: mark.at, text: mark.text });
    else if (last?.kind === "tools") last.calls.push(mark);
    else pieces.push({ kind: "tools", at: mark.at, calls: [mark] });
  }
  if (from < text.length) pieces.push({ kind: "text", at: from, text: text.slice(from) });
  return pieces;
}
