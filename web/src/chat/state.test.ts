import { describe, expect, test } from "vitest";
import type { Conversation, RunEvent, WireMessage } from "../api/types";
import { type Message, visibleBody } from "./message";
import { type ChatAction, NEW_THREAD } from "./state";
import {
  AT,
  answerAfter,
  began,
  conversation,
  done,
  events,
  log,
  messages,
  open,
  RUN,
  reduced,
  said,
  send,
  text,
  turn,
  unsent,
  wire,
} from "./story";
import { activeAnswer } from "./thread";
import { firstWords, titleOf } from "./title";

describe("a turn", () => {
  test("shows the message and an empty answer at once", () => {
    const state = reduced([...open, send]);
    expect(messages(state).map(({ role, state, text }) => ({ role, state, text }))).toEqual([
      { role: "user", state: "sending", text: "hi" },
      { role: "assistant", state: "sending", text: "" },
    ]);
    expect(activeAnswer(state.threads.c1)?.key).toBe("k1");
  });

  test("gets the server's ids and keeps its keys", () => {
    const [user, answer] = messages(reduced([...open, send, events(log([began, said]))]));
    expect(user).toMatchObject({ key: "m1", id: "u1", state: "complete" });
    expect(answer).toMatchObject({ key: "k1", id: "a1", runId: RUN, model: "demo", state: "streaming" });
  });

  test("grows by what comes and ends with done", () => {
    const state = reduced([...open, send, events(log([began, text("Hel", 0), text("lo", 3), done("completed")]))]);
    expect(messages(state).at(-1)).toMatchObject({ text: "Hello", state: "complete" });
    expect(activeAnswer(state.threads.c1)).toBeUndefined();
  });

  test.each(["cancelled", "interrupted", "limited"] as const)("that ends %s says so and keeps its text", (status) => {
    expect(answerAfter(log([began, text("part", 0), done(status)]))).toMatchObject({ text: "part", state: status });
  });

  test("that fails keeps its text, the reason and when to try again", () => {
    const failure = { kind: "error", code: "stream_stalled", message: "m", request_id: "q", retry_after: 5 };
    const answer = answerAfter(log([began, text("part", 0), failure]));
    expect(answer).toMatchObject({ text: "part", state: "failed" });
    expect(answer.problem).toMatchObject({ code: "stream_stalled", requestId: "q", retryAt: AT + 5000 });
  });

  test("applies no event twice", () => {
    const once = log([began, text("Hel", 0)]);
    expect(answerAfter([...once, ...once, ...log([text("lo", 3)], 3)]).text).toBe("Hello");
  });

  test("is cut back to the offset of a text that begins earlier, counted in code points", () => {
    expect(answerAfter(log([began, text("👋🏽 hey", 0), text("!", 2)])).text).toBe("👋🏽!");
    expect(answerAfter(log([began, text("abc", 0), text("whole text", 0), text(".", 10)])).text).toBe("whole text.");
  });

  test("drops a step's text on reset", () => {
    expect(
      answerAfter(log([began, text("one two", 0), { kind: "reset", step: 1, offset: 4 }, text("three", 4)])).text,
    ).toBe("one three");
  });

  test("keeps reasoning and usage apart from the text", () => {
    const usage = {
      input_tokens: 1,
      output_tokens: 2,
      total_tokens: 3,
      cached_tokens: 0,
      reasoning_tokens: 0,
      cost: null,
      estimated: true,
    };
    const answer = answerAfter(
      log([began, { kind: "reasoning", delta: "hm" }, text("x", 0), { kind: "usage", ...usage }]),
    );
    expect(answer).toMatchObject({ marks: [{ kind: "thought", at: 0, text: "hm" }], text: "x", usage });
  });

  test("whose message could not be sent leaves the message, marked, and no answer", () => {
    const state = reduced([...open, send, unsent]);
    expect(messages(state)).toMatchObject([{ role: "user", state: "unsent", problem: { code: "network" } }]);
    expect(activeAnswer(state.threads.c1)).toBeUndefined();
  });

  test("sent again takes the place of the one that failed", () => {
    const state = reduced([...open, send, unsent, send]);
    expect(messages(state).map((message) => message.state)).toEqual(["sending", "sending"]);
  });
});

describe("an answer that was being written when the page was loaded", () => {
  const partial = wire("a1", "assistant", "stored half", { state: "partial" });
  const loaded: ChatAction[] = [
    { type: "thread_loading", thread: "c1", viewKey: "v1" },
    { type: "thread_loaded", thread: "c1", messages: [wire("u1", "user", "hi"), partial], olderToken: "" },
    { type: "run_replayed", thread: "c1", answerKey: "a1" },
  ];
  const replay = (list: RunEvent[]): ChatAction => ({
    type: "run_events",
    thread: "c1",
    answerKey: "a1",
    events: list,
    at: AT,
  });
  const shown = (actions: ChatAction[]) =>
    visibleBody(messages(reduced([...loaded, ...actions])).at(-1) as Message).text;

  test("never shows less than was stored while the log is replayed", () => {
    expect(shown([])).toBe("stored half");
    expect(shown([replay(log([began, text("sto", 0)]))])).toBe("stored half");
    expect(shown([replay(log([began, text("stored half and more", 0)]))])).toBe("stored half and more");
  });

  test("shows what the log says once the run has ended", () => {
    expect(shown([replay(log([began, text("short", 0), done("completed")]))])).toBe("short");
  });

  test("keeps what was stored if the log ends in an error", () => {
    expect(shown([replay(log([began, { kind: "error", code: "internal", message: "", request_id: "" }]))])).toBe(
      "stored half",
    );
  });

  test("keeps what was stored when it is left", () => {
    const state = reduced([...loaded, { type: "run_left", thread: "c1", answerKey: "a1", problem: null }]);
    expect(messages(state).at(-1)).toMatchObject({ text: "stored half", state: "interrupted" });
  });
});

describe("messages loaded again", () => {
  const stored = [wire("u1", "user", "hi"), wire("a1", "assistant", "Hello")];
  const load = (list: WireMessage[], olderToken = ""): ChatAction => ({
    type: "thread_loaded",
    thread: "c1",
    messages: list,
    olderToken,
  });

  test("are the same objects if nothing has changed, so nothing is drawn again", () => {
    const before = reduced([...open, load(stored)]);
    const again = reduced([load(stored)], before);
    expect(messages(again)[1]).toBe(messages(before)[1]);
  });

  test("keep older messages, and messages that could not be sent, in their places", () => {
    const state = reduced([
      ...open,
      load(stored, "older"),
      { type: "older_loaded", thread: "c1", messages: [wire("u0", "user", "first")], olderToken: "" },
      send,
      unsent,
      load(stored, "older"),
    ]);
    expect(messages(state).map((message) => message.text)).toEqual(["first", "hi", "Hello", "hi"]);
    expect(state.threads.c1?.olderToken).toBe("");
  });

  test("that hold the turn before its first event has come do not show it twice", () => {
    const early = [
      wire("u0", "user", "first"),
      wire("u1", "user", "hi"),
      wire("a1", "assistant", "", { state: "partial" }),
    ];
    const state = reduced([...open, send, load(early), events(log([began, said, text("live", 0)]))]);
    expect(messages(state).map((message) => message.text)).toEqual(["first", "hi", "live"]);
  });

  test("do not disturb the answer that is being written", () => {
    const state = reduced([
      ...open,
      send,
      events(log([began, said, text("live", 0)])),
      load([wire("u1", "user", "hi"), wire("a1", "assistant", "", { state: "partial" })]),
    ]);
    expect(messages(state)).toMatchObject([{ key: "m1" }, { key: "k1", text: "live", state: "streaming" }]);
  });
});

describe("a search", () => {
  const found = (words: string, id: string): ChatAction => ({
    ...{ type: "search_found", words, items: [{ ...conversation(id), match: null }], nextToken: "", append: false },
  });

  test("shows what the newest words have found, whatever comes late", () => {
    const state = reduced([
      { type: "search_changed", words: "ti" },
      { type: "search_changed", words: "tide" },
      found("tide", "b"),
      found("ti", "a"),
    ]);
    expect(state.search).toMatchObject({ words: "tide", items: [{ id: "b" }], status: "ready" });
  });

  test("is over without words", () => {
    expect(
      reduced([
        { type: "search_changed", words: "x" },
        { type: "search_changed", words: "" },
      ]).search,
    ).toBeNull();
  });
});

describe("the list of conversations", () => {
  const page = (items: Conversation[], nextToken: string, append = false): ChatAction => ({
    ...{ type: "list_loaded", items, nextToken, append },
  });

  test("grows by pages without repeating one", () => {
    const state = reduced([
      page([conversation("a"), conversation("b")], "t1"),
      page([conversation("b"), conversation("c")], "", true),
    ]);
    expect(state.list.items.map(({ id }) => id)).toEqual(["a", "b", "c"]);
  });

  test("keeps its length when its first page is loaded again", () => {
    const [a, b, c] = [conversation("a", "2026-03"), conversation("b", "2026-02"), conversation("c", "2026-01")];
    const state = reduced([page([a, b], "t1"), page([c], "t2", true), page([conversation("b", "2026-04"), a], "t1")]);
    expect(state.list.items.map(({ id }) => id)).toEqual(["b", "a", "c"]);
    expect(state.list.nextToken).toBe("t2");
  });

  test("puts the one that was written in first", () => {
    const touched: ChatAction = { type: "conversation_touched", id: "b", at: "2026-05" };
    expect(reduced([page([conversation("a"), conversation("b")], ""), touched]).list.items[0]?.id).toBe("b");
  });

  test("forgets a deleted conversation and its messages", () => {
    const state = reduced([page([conversation("c1")], ""), ...open, { type: "conversation_removed", id: "c1" }]);
    expect(state.list.items).toEqual([]);
    expect(state.threads).toEqual({});
  });
});

test("a new conversation keeps its messages and its view when it gets its id", () => {
  const state = reduced([
    { type: "thread_started", viewKey: "v9" },
    { ...send, thread: NEW_THREAD },
    { type: "thread_adopted", conversation: conversation("c9") },
  ]);
  expect(state.threads[NEW_THREAD]).toBeUndefined();
  expect(state.threads.c9).toMatchObject({ viewKey: "v9", messages: [{ text: "hi" }, { role: "assistant" }] });
  expect(state.list.items[0]?.id).toBe("c9");
});

describe("a title", () => {
  test("falls back to the first words of the first message", () => {
    const state = reduced([...open, { ...send, turn: { ...turn, text: "  What is\n the   tide? " } }]);
    expect(titleOf(conversation("c1", "", ""), state.threads.c1)).toBe("What is the tide?");
    expect(titleOf(conversation("c1", "", "Tides"), state.threads.c1)).toBe("Tides");
    expect(titleOf(undefined, undefined)).toBe("New conversation");
  });

  test("made of a long text ends with a whole word and cuts no character in two", () => {
    const words = firstWords("every good conversation begins with a question that somebody really wants answered");
    expect(words).toBe("every good conversation begins with a question that…");
    expect([...firstWords("👋🏽".repeat(500))].length).toBeLessThanOrEqual(61);
    expect(firstWords("👋".repeat(500))).toBe(`${"👋".repeat(60)}…`);
  });
});
