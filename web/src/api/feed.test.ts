import { expect, test } from "vitest";
import { FeedPlace, followConversation } from "./feed";
import { ProblemError, problemOf } from "./problem";
import type { RunEvent } from "./types";

type Sent = [run: string, seq: number, kind: string, data?: Record<string, unknown>];

const began = (run: string): Sent => [run, 1, "run", { message_id: `a-${run}` }];
const text = (run: string, seq: number, delta: string, offset: number): Sent => [run, seq, "text", { delta, offset }];
const done = (run: string, seq: number): Sent => [run, seq, "done", { status: "completed" }];

function frames(...events: Sent[]): string {
  return events
    .map(([run_id, seq, kind, data]) => {
      return `id: ${run_id}:${seq}\nevent: ${kind}\ndata: ${JSON.stringify({ run_id, seq, ...data })}\n\n`;
    })
    .join("");
}

/** A server that answers each request with the next scripted reply, and then says that the conversation is gone. */
async function follow(from: string, ...replies: (string | Error)[]) {
  const asked: string[] = [];
  const seen: string[] = [];
  const replayed: string[] = [];
  const waits: number[] = [];
  const api = {
    conversationEvents: async (_id: string, after: string): Promise<Response> => {
      asked.push(after);
      const next = replies.shift() ?? refused("conversation_not_found");
      if (next instanceof Error) throw next;
      return new Response(next, { headers: { "content-type": "text/event-stream" } });
    },
  };
  const watcher = {
    events: (run: string, events: RunEvent[]) => void seen.push(...events.map(({ seq }) => `${run}:${seq}`)),
    replay: (run: string) => void replayed.push(run),
    resume: (run: string) => void seen.push(`${run} again`),
    connection: () => undefined,
  };
  const wait = async (ms: number) => void waits.push(ms);
  const timing = {
    firstDelayMs: 500,
    maxDelayMs: 10_000,
    idleMs: 1000,
    wokenIdleMs: 1000,
    wait,
    onWake: () => () => undefined,
  };
  const ending = await followConversation(
    api,
    "c1",
    new FeedPlace(from),
    watcher,
    new AbortController().signal,
    timing,
  );
  return { ending: ending.kind, asked, seen, replayed, waits };
}

const refused = (code: string, status = 404, retryAt: number | null = null) =>
  new ProblemError(problemOf(code, { status, retryAt }));

test("runs are handed on as they come, each event once, and the next connection goes on after them", async () => {
  const all = frames(began("r1"), text("r1", 2, "a", 0), done("r1", 3), began("r2"), text("r2", 2, "b", 0));
  const rest = frames(text("r2", 2, "b", 0), done("r2", 3));
  const { asked, seen, ending } = await follow("r0:7", `: ok\n\n${all}`, rest);
  expect(asked).toEqual(["r0:7", "r2:2", "r2:3"]);
  expect(seen).toEqual(["r1:1", "r1:2", "r1:3", "r2:1", "r2:2", "r2:3"]);
  expect(ending).toBe("gone");
});

test("of interleaved runs the oldest unfinished one says where to go on, and nothing comes twice", async () => {
  const first = frames(began("r1"), text("r1", 2, "a", 0), began("r2"));
  const { asked, seen } = await follow("", first, frames(done("r1", 3), began("r2"), text("r2", 2, "b", 0)));
  expect(asked).toEqual(["", "r1:2", "r2:2"]);
  expect(seen).toEqual(["r1:1", "r1:2", "r2:1", "r1:3", "r2:2"]);
});

test("a hole in an answer makes its run come again from the start", async () => {
  const whole = [began("r1"), text("r1", 2, "one ", 0), text("r1", 3, "two", 4), done("r1", 4)];
  const { asked, replayed, seen } = await follow("", frames(...whole.slice(0, 1), ...whole.slice(2)), frames(...whole));
  expect(replayed).toEqual(["r1"]);
  expect(asked[1]).toBe("r1:0");
  expect(seen).toEqual(["r1:1", "r1:1", "r1:2", "r1:3", "r1:4"]);
});

test("waits double while nothing answers, and the server's wish is honoured", async () => {
  const network = () => new ProblemError(problemOf("network"));
  const { waits } = await follow("", network(), network(), network(), frames(began("r1")), "retry: 1000\n\n");
  expect(waits).toEqual([500, 1000, 2000, 500, 1000]);
});

test("a place the server does not know is lost, and a conversation it does not know is gone", async () => {
  expect((await follow("r9:4", refused("run_not_found"))).ending).toBe("lost");
  expect((await follow("r9:4", refused("cursor_ahead", 416))).ending).toBe("lost");
  expect((await follow("r9:4", refused("conversation_not_found"))).ending).toBe("gone");
});

test("too many watchers is no reason to stop trying", async () => {
  const { asked, waits } = await follow(
    "",
    refused("too_many_watchers", 429, Date.now() + 60_000),
    frames(began("r1")),
  );
  expect(asked).toEqual(["", "", "r1:1"]);
  expect(waits[0]).toBeGreaterThan(50_000);
});

test("a session that is over ends the following", async () => {
  await expect(follow("", refused("signed_out", 0))).rejects.toMatchObject({ problem: { code: "signed_out" } });
});

test("a run that has ended and is tried again goes on", async () => {
  const failed: Sent = ["r1", 3, "error", { code: "provider_unavailable" }];
  const first = frames(began("r1"), text("r1", 2, "half", 0), failed);
  const { seen, asked } = await follow("r1:0", first, frames(failed, text("r1", 7, "whole", 0), done("r1", 8)));
  expect(seen).toEqual(["r1:1", "r1:2", "r1:3", "r1 again", "r1:7", "r1:8"]);
  expect(asked).toEqual(["r1:0", "r1:3", "r1:8"]);
});
