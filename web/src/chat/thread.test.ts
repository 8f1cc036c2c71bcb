import { describe, expect, test } from "vitest";
import { problemOf } from "../api/problem";
import type { RunEvent, WireMessage } from "../api/types";
import { type Message, visibleBody } from "./message";
import type { ChatAction } from "./state";
import { answerAfter, began, done, events, log, messages, open, reduced, said, send, text, wire } from "./story";
import { activeAnswer } from "./thread";
import type { Turn } from "./turn";

describe("a branch", () => {
  const stored = [
    wire("u1", "user", "first"),
    wire("a1", "assistant", "one"),
    wire("u2", "user", "second"),
    wire("a2", "assistant", "two half", { state: "interrupted", sibling_ids: ["a0", "a2"] }),
  ];
  const load = (list: WireMessage[]): ChatAction => ({
    ...{ type: "thread_loaded", thread: "c1", messages: list, olderToken: "" },
  });
  const ask = (turn: Turn): ChatAction => ({ ...send, turn });
  const began2 = { ...began, message_id: "a3", user_message_id: "u3" };
  const turned = (turn: Turn, list: RunEvent[] = []) =>
    messages(reduced([...open, load(stored), ask(turn), events(list)]));

  test("that begins at an edited message has what came before it, and both versions", () => {
    const edit: Turn = { kind: "edit", target: "u2", text: "other", clientMessageId: "m1" };
    const shown = turned(edit, log([began2]));
    expect(shown.map((message) => message.text)).toEqual(["first", "one", "other", ""]);
    expect(shown[2]).toMatchObject({ id: "u3", siblings: ["u2", "u3"] });
  });

  test("that begins at a regenerated answer keeps its question", () => {
    const again: Turn = { kind: "regenerate", target: "a2", clientMessageId: "m1" };
    const shown = turned(again, log([{ ...began2, user_message_id: "u2" }]));
    expect(shown.map((message) => message.text)).toEqual(["first", "one", "second", ""]);
    expect(shown[3]).toMatchObject({ id: "a3", siblings: ["a0", "a2", "a3"], state: "streaming" });
  });

  test("that goes on with an answer shows what is kept from the first moment", () => {
    const on: Turn = { kind: "continue", target: "a2", clientMessageId: "m1" };
    const steps = [{ ...began2, user_message_id: "u2" }, text("two half", 0), text(" and whole", 8)];
    const texts = [0, 1, 2, 3].map((n) => visibleBody(turned(on, log(steps.slice(0, n))).at(-1) as Message).text);
    expect(texts).toEqual(["two half", "two half", "two half", "two half and whole"]);
  });

  test("that could not be begun stays in view with its reason until it is discarded", () => {
    const again: Turn = { kind: "regenerate", target: "a2", clientMessageId: "m1" };
    const failed: ChatAction = {
      ...{ type: "turn_unsent", thread: "c1", turn: again, answerKey: "k1", problem: problemOf("concurrent_request") },
    };
    const state = reduced([...open, load(stored), ask(again), failed, load(stored)]);
    expect(messages(state).map((message) => message.state)).toEqual(["complete", "complete", "complete", "unsent"]);
    expect(messages(state).at(-1)?.problem?.code).toBe("concurrent_request");
    const back = reduced([{ type: "turn_discarded", thread: "c1", turn: again }, load(stored)], state);
    expect(messages(back).at(-1)).toMatchObject({ id: "a2", text: "two half" });
  });

  test("chosen elsewhere takes the place of the one in view", () => {
    const other = [...stored.slice(0, 3), wire("a0", "assistant", "zero", { sibling_ids: ["a0", "a2"] })];
    expect(messages(reduced([...open, load(stored), load(other)])).map((message) => message.id)).toEqual([
      ...["u1", "a1", "u2", "a0"],
    ]);
  });
});

describe("a run that waits in the queue", () => {
  const queued: ChatAction = { ...send, queued: true };
  test("is shown as waiting until it begins", () => {
    const state = reduced([...open, queued, events(log([began, said]))]);
    expect(messages(state).at(-1)?.state).toBe("queued");
    expect(messages(reduced([events(log([{ kind: "thinking" }], 3))], state)).at(-1)?.state).toBe("streaming");
  });

  test("does not hide the one that is being written from Stop", () => {
    const running = wire("a0", "assistant", "half", { run_id: "r0", state: "partial" });
    const state = reduced([
      ...open,
      { type: "thread_loaded", thread: "c1", messages: [wire("u0", "user", "x"), running], olderToken: "" },
      queued,
    ]);
    expect(activeAnswer(state.threads.c1)?.id).toBe("a0");
  });

  test("is never taken for waiting once it has begun", () => {
    const late: ChatAction = { type: "run_queued", thread: "c1", answerKey: "k1" };
    expect(messages(reduced([...open, send, events(log([began, said, text("x", 0)])), late])).at(-1)?.state).toBe(
      "streaming",
    );
  });
});

describe("tools", () => {
  const use = { kind: "tool_use", tool_call_id: "t1", name: "current_time", input: { zone: "UTC" } };
  const result = { kind: "tool_result", tool_call_id: "t1", name: "current_time", content: "noon", is_error: false };

  test("are shown with their answer, at their place in the text", () => {
    const answer = answerAfter(log([began, text("Let me look. ", 0), use, result, text("It is noon.", 13)]));
    expect(answer.marks).toMatchObject([{ kind: "tool", at: 13, name: "current_time", result: { content: "noon" } }]);
    expect(answer.text).toBe("Let me look. It is noon.");
  });

  test("of a step that is done again are called again; those of finished steps stay", () => {
    const reset = { kind: "reset", step: 2, offset: 0 };
    const second = { ...use, tool_call_id: "t2" };
    const answer = answerAfter(log([began, use, result, second, reset, reset, text("x", 0)]));
    expect(answer.marks.map((mark) => mark.kind === "tool" && mark.id)).toEqual(["t1"]);
  });

  test("told again by a snapshot are there once", () => {
    const answer = answerAfter(log([began, text("abc", 0), use, result, text("abc", 0), use, result, text("d", 3)]));
    expect(answer).toMatchObject({ text: "abcd", marks: [{ kind: "tool", result: { content: "noon" } }] });
    expect(answer.marks).toHaveLength(1);
  });

  test("and progress say what the run is doing until words come", () => {
    const progress = { kind: "progress", step: 1, message: "Looking up the time" };
    expect(answerAfter(log([began, progress])).progress).toBe("Looking up the time");
    expect(answerAfter(log([began, progress, text("x", 0)])).progress).toBe("");
  });
});

test("how an answer ended is learned from its log where what is stored does not say", () => {
  const stored = (state: WireMessage["state"]): ChatAction => ({
    ...{ type: "thread_loaded", thread: "c1", messages: [wire("k1", "assistant", "Hello", { state })], olderToken: "" },
  });
  const limited = reduced([...open, stored("complete"), events(log([began, text("Hello", 0), done("limited")]))]);
  expect(messages(limited)).toMatchObject([{ text: "Hello", state: "limited" }]);
  const again = reduced([stored("complete")], limited);
  expect(messages(again)[0]?.state).toBe("limited");
  const failure = { kind: "error", code: "run_timeout", message: "m", request_id: "q" };
  const failed = reduced([...open, stored("failed"), events(log([began, failure]))]);
  expect(messages(failed)).toMatchObject([{ text: "Hello", state: "failed", problem: { code: "run_timeout" } }]);
});
