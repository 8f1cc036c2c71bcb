import { expect, test } from "vitest";
import type { StartRun } from "./client";
import { followRun } from "./follow";
import { ProblemError, problemOf } from "./problem";
import type { Run, RunEvent, RunStatus } from "./types";

const RUN = "r1";
const START: StartRun = { conversationId: "c1", ask: { message: "hi" }, clientMessageId: "m1", onConflict: "reject" };

type Sent = { kind: string; [key: string]: unknown };

function frames(events: [number, Sent][]): string {
  const frame = ([seq, { kind, ...data }]: [number, Sent]) =>
    `id: ${RUN}:${seq}\nevent: ${kind}\ndata: ${JSON.stringify({ run_id: RUN, seq, ...data })}\n\n`;
  return events.map(frame).join("");
}

const run: Sent = { kind: "run", conversation_id: "c1", message_id: "a1", user_message_id: "u1", model: "demo" };
const text = (delta: string, offset: number): Sent => ({ kind: "text", delta, offset });
const done: Sent = { kind: "done", status: "completed", message_id: "a1" };
const LOG: [number, Sent][] = [
  [1, run],
  [2, text("one ", 0)],
  [3, text("👋 two ", 4)],
  [4, text("three", 10)],
  [5, done],
];

const NOTHING_MORE = "204";

/** A server that answers each request with the next scripted reply. */
class Server {
  readonly requests: string[] = [];
  readonly waits: number[] = [];
  status: RunStatus = "running";
  private readonly replies: (string | Error)[];

  constructor(...replies: (string | Error)[]) {
    this.replies = replies;
  }

  startRun = async (): Promise<Response> => this.reply("start");
  runEvents = async (_id: string, after: number): Promise<Response> => this.reply(`events after ${after}`);
  run = async (): Promise<Run> =>
    ({
      id: RUN,
      conversation_id: "c1",
      message_id: "a1",
      status: this.status,
      error_code: null,
    }) satisfies Run;

  private reply(request: string): Response {
    this.requests.push(request);
    const next = this.replies.shift();
    if (next === NOTHING_MORE) return new Response(null, { status: 204 });
    if (next === undefined) throw new Error(`no reply scripted for ${request}`);
    if (next instanceof Error) throw next;
    return new Response(next, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
  }

  async follow() {
    const seen: RunEvent[] = [];
    let replays = 0;
    const watcher = {
      events: (events: RunEvent[]) => void seen.push(...events),
      replay: () => {
        replays++;
        seen.length = 0;
      },
      connection: () => undefined,
    };
    const wait = async (ms: number) => void this.waits.push(ms);
    const timing = {
      firstDelayMs: 500,
      maxDelayMs: 10_000,
      idleMs: 1000,
      wokenIdleMs: 1000,
      wait,
      onWake: () => () => undefined,
    };
    const ending = await followRun(this, START, watcher, new AbortController().signal, timing);
    return { ending, seqs: seen.map((event) => event.seq), replays };
  }
}

const network = () => new ProblemError(problemOf("network"));
const http = (status: number, retryAt: number | null = null) =>
  new ProblemError(problemOf(`http_${status}`, { status, retryAt }));

test("a run on one connection is followed to its end", async () => {
  const server = new Server(`: ok\n\n${frames(LOG)}`);
  expect(await server.follow()).toEqual({ ending: "finished", seqs: [1, 2, 3, 4, 5], replays: 0 });
  expect(server.requests).toEqual(["start"]);
});

test("a cut connection is resumed after the last event, wherever it was cut", async () => {
  const whole = frames(LOG);
  for (let cut = 1; cut < whole.length; cut++) {
    const seen = [...whole.slice(0, cut).matchAll(/\n\n/g)].length;
    const server = new Server(whole.slice(0, cut), frames(LOG.slice(seen)));
    expect((await server.follow()).seqs, `cut at ${cut}`).toEqual([1, 2, 3, 4, 5]);
    expect(server.requests[1]).toBe(seen === 0 ? "start" : `events after ${seen}`);
  }
});

test("events that come twice are handed on once", async () => {
  const server = new Server(frames(LOG.slice(0, 3)), frames(LOG));
  expect((await server.follow()).seqs).toEqual([1, 2, 3, 4, 5]);
});

test("names and data that are not known are skipped", async () => {
  const odd = `event: sparkle\ndata: {"run_id":"${RUN}","seq":9}\n\nevent: text\ndata: {broken\n\n`;
  const server = new Server(frames(LOG.slice(0, 2)) + odd + frames(LOG.slice(2)));
  expect((await server.follow()).seqs).toEqual([1, 2, 3, 4, 5]);
});

test("a text that begins past the end of the answer makes it come again from the start", async () => {
  const server = new Server(frames([LOG[0], LOG[1], LOG[3]] as [number, Sent][]), frames(LOG));
  expect(await server.follow()).toEqual({ ending: "finished", seqs: [1, 2, 3, 4, 5], replays: 1 });
  expect(server.requests).toEqual(["start", "events after 0"]);
});

test("a snapshot in place of the old events is taken as it comes", async () => {
  const server = new Server(frames(LOG.slice(0, 2)), frames([[4, text("one 👋 two three", 0)], ...LOG.slice(4)]));
  expect(await server.follow()).toEqual({ ending: "finished", seqs: [1, 2, 4, 5], replays: 0 });
});

test("the wait doubles to its limit and starts afresh when something new came", async () => {
  const server = new Server(
    frames(LOG.slice(0, 2)),
    ...Array.from({ length: 7 }, network),
    frames(LOG.slice(2, 3)),
    frames(LOG.slice(3)),
  );
  await server.follow();
  expect(server.waits).toEqual([500, 500, 1000, 2000, 4000, 8000, 10_000, 10_000, 500]);
});

test("the server's wish for the first wait is honoured", async () => {
  const server = new Server(`retry: 2000\n\n${frames(LOG.slice(0, 2))}`, frames(LOG.slice(2)));
  await server.follow();
  expect(server.waits).toEqual([2000]);
});

test("a server that asks for patience while reconnecting gets it", async () => {
  const server = new Server(frames(LOG.slice(0, 2)), http(503, Date.now() + 60_000), frames(LOG.slice(2)));
  await server.follow();
  expect(server.waits[1]).toBeGreaterThan(50_000);
});

test("a message whose sending failed on the way is sent again, and three failures are an error", async () => {
  const lucky = new Server(network(), network(), frames(LOG));
  expect((await lucky.follow()).ending).toBe("finished");
  expect(lucky.requests).toEqual(["start", "start", "start"]);
  await expect(new Server(network(), network(), network()).follow()).rejects.toMatchObject({
    problem: { code: "network" },
  });
});

test("a refusal before the run begins is an error at once", async () => {
  const server = new Server(http(503));
  await expect(server.follow()).rejects.toMatchObject({ problem: { status: 503 } });
  expect(server.requests).toEqual(["start"]);
});

test("a run whose events are no longer there is gone", async () => {
  expect((await new Server(frames(LOG.slice(0, 2)), http(404)).follow()).ending).toBe("gone");
});

test("a run that has nothing more to say, though its end was not seen, is gone", async () => {
  const server = new Server(frames(LOG.slice(0, 2)), NOTHING_MORE);
  expect((await server.follow()).ending).toBe("gone");
});

test("a run that ended without a last event is gone after a few empty connections", async () => {
  const server = new Server(frames(LOG.slice(0, 2)), "", "", "");
  server.status = "interrupted";
  expect((await server.follow()).ending).toBe("gone");
  expect(server.requests).toHaveLength(4);
});

test("a session that is over ends the following", async () => {
  const server = new Server(frames(LOG.slice(0, 2)), new ProblemError(problemOf("signed_out")));
  await expect(server.follow()).rejects.toMatchObject({ problem: { code: "signed_out" } });
});
