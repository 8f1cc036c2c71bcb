import { describe, expect, test } from "vitest";
import { problemOf } from "../api/problem";
import type { Conversation, RunEvent, WireMessage } from "../api/types";
import { type Message, visibleBody } from "./message";
import { type ChatAction, type ChatState, INITIAL, NEW_THREAD, reduce } from "./state";
import { activeAnswer } from "./thread";
import { firstWords, titleOf } from "./title";
import type { Turn } from "./turn";

const RUN = "r1";
const AT = 1_000_000;

const conversation = (id: string, updated = "2026-01-01T00:00:00Z", title = id): Conversation => ({
  ...{ id, title, created_at: updated, updated_at: updated },
});

function wire(id: string, role: "user" | "assistant", content: string, more: Partial<WireMessage> = {}): WireMessage {
  return {
    ...{ id, conversation_id: "c1", run_id: RUN, role, content, parts: [], state: "complete", model: "" },
    ...{ usage: null, created_at: "2026-01-01T00:00:00Z", sibling_ids: [id] },
    ...more,
  };
}

function reduced(actions: ChatAction[], from: ChatState = INITIAL): ChatState {
  return actions.reduce(reduce, from);
}

/** Events with their place in the run's log, from `first`. */
function log(events: Record<string, unknown>[], first = 1): RunEvent[] {
  return events.map((event, i) => ({ run_id: RUN, seq: first + i, ...event }) as RunEvent);
}

const began = { kind: "run", conversation_id: "c1", message_id: "a1", user_message_id: "u1", model: "demo" };
const said = { kind: "user_message", message_id: "u1", content: "hi", created_at: "2026-01-01T00:00:00Z" };
const text = (delta: string, offset: number) => ({ kind: "text", delta, offset });
const done = (status: string) => ({ kind: "done", status, message_id: "a1" });

const open: ChatAction[] = [
  { type: "thread_loading", thread: "c1", viewKey: "v1" },
  { type: "thread_loaded", thread: "c1", messages: [], olderToken: "" },
];
const turn: Turn = { kind: "new", text: "hi", clientMessageId: "m1" };
const send = { type: "turn_sent", thread: "c1", turn, answerKey: "k1", queued: false } satisfies ChatAction;
const unsent: ChatAction = {
  ...{ type: "turn_unsent", thread: "c1", turn, answerKey: "k1", problem: problemOf("network") },
};
const events = (list: RunEvent[]): ChatAction => ({
  type: "run_events",
  thread: "c1",
  answerKey: "k1",
  events: list,
  at: AT,
});

function messages(state: ChatState, thread = "c1"): Message[] {
  return state.threads[thread]?.messages ?? [];
}

function answerAfter(list: RunEvent[]): Message {
  const answer = messages(reduced([...open, send, events(list)])).at(-1);
  if (!answer) throw new Error("no answer");
  return answer;
}

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
