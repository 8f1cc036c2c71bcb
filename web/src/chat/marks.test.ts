import { describe, expect, test } from "vitest";
import type { WirePart } from "../api/types";
import { type Body, beforeStep, bodyOfParts, currentStep, piecesOf } from "./marks";

const use = (id: string): WirePart => ({ type: "tool_use", tool_call_id: id, name: "look", input: { id } });
const result = (id: string, is_error = false): WirePart => ({
  ...{ type: "tool_result", tool_call_id: id, name: "look", content: `said ${id}`, is_error },
});
const text = (words: string): WirePart => ({ type: "text", text: words });
const thought = (words: string): WirePart => ({ type: "reasoning", text: words });

/** Pieces in short: words as they are, thoughts in brackets, tools by their ids. */
function drawn(body: Body): string[] {
  return piecesOf(body).map((piece) => {
    if (piece.kind === "tools") return piece.calls.map((call) => `${call.id}${call.result ? "!" : "?"}`).join("+");
    return piece.kind === "thought" ? `(${piece.text})` : piece.text;
  });
}

describe("what stands between the words", () => {
  test("is drawn at its place, and tools of one call together", () => {
    const parts = [thought("hm"), text("Let me look."), use("a"), use("b"), result("a"), result("b"), text("Found.")];
    expect(drawn(bodyOfParts(parts))).toEqual(["(hm)", "Let me look.", "a!+b!", "Found."]);
  });

  test("counts as a step until every tool of it has answered", () => {
    expect(currentStep(bodyOfParts([]).marks)).toBe(1);
    expect(currentStep(bodyOfParts([use("a"), use("b"), result("a")]).marks)).toBe(1);
    expect(currentStep(bodyOfParts([use("a"), result("a")]).marks)).toBe(2);
    expect(bodyOfParts([use("a"), result("a"), thought("so"), use("b")]).marks.map(({ step }) => step)).toEqual([
      1, 2, 2,
    ]);
  });

  test("of a step that begins anew goes, and of finished steps stays", () => {
    const { text: words, marks } = bodyOfParts([
      text("one "),
      use("a"),
      result("a"),
      thought("so"),
      text("two"),
      use("b"),
    ]);
    expect(drawn({ text: "one ", marks: beforeStep(marks, 2, 4) })).toEqual(["one ", "a!"]);
    expect(drawn({ text: words.slice(0, 4), marks: beforeStep(marks, 1, 4) })).toEqual(["one "]);
  });

  test("tells a call that failed from one that went well", () => {
    const [mark] = bodyOfParts([use("a"), result("a", true)]).marks;
    expect(mark).toMatchObject({ name: "look", input: { id: "a" }, result: { content: "said a", isError: true } });
  });
});
