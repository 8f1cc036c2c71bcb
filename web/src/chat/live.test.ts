import { beforeAll, describe, expect, test, vi } from "vitest";
import type { RunEvent, WireMessage } from "../api/types";
import { Live } from "./live";
import { type Message, visibleBody } from "./message";
import { ChatStore } from "./store";

beforeAll(() => {
  vi.stubGlobal("document", { hidden: false });
  vi.stubGlobal("requestAnimationFrame", (draw: () => void) => setTimeout(draw));
  vi.stubGlobal("cancelAnimationFrame", clearTimeout);
});

/** However busy the machine is. */
const eventually = (holds: () => void): Promise<void> => vi.waitFor(holds, { timeout: 20_000, interval: 5 });

type Sent = [run: string, seq: number, kind: string, data?: Record<string, unknown>];

const began = (run: string): Sent => [
  run,
  1,
  "run",
  { message_id: `a-${run}`, user_message_id: `u-${run}`, model: "" },
];
const text = (run: string, seq: number, delta: string, offset: number): Sent => [run, seq, "text", { delta, offset }];
const done = (run: string, seq: number): Sent => [run, seq, "done", { status: "completed" }];

function stored(run: string, answer: string, state: WireMessage["state"]): WireMessage[] {
  const message = (id: string, role: WireMessage["role"], content: string, how: WireMessage["state"]): WireMessage => ({
    ...{ id, conversation_id: "c1", run_id: run, role, content, parts: [], state: how, model: "", usage: null },
    ...{ created_at: "", sibling_ids: [id] },
  });
  return [message(`u-${run}`, "user", `ask ${run}`, "complete"), message(`a-${run}`, "assistant", answer, state)];
}

/** A conversation at a server: what is stored of it, and the connections that follow it. */
class Server {
  messages: WireMessage[] = [];
  readonly joined: string[] = [];
  loads = 0;
  readonly store = new ChatStore();
  readonly ended: string[] = [];
  readonly own = new Set<string>();
  readonly live: Live;
  private connection: ReadableStreamDefaultController<Uint8Array> | null = null;

  constructor() {
    const wait = async () => undefined;
    const timing = {
      firstDelayMs: 1,
      maxDelayMs: 1,
      idleMs: 60_000,
      wokenIdleMs: 60_000,
      wait,
      onWake: () => () => undefined,
    };
    const told = {
      load: () => this.load(),
      isOwn: (key: string) => this.own.has(key),
      accepted: () => undefined,
      ended: (_thread: string, key: string) => void this.ended.push(key),
      gone: () => undefined,
    };
    this.live = new Live(this, this.store, told, timing);
    this.store.dispatch({ type: "thread_loading", thread: "c1", viewKey: "v1" });
    this.live.show("c1");
  }

  conversationEvents = async (_id: string, after: string, signal: AbortSignal): Promise<Response> => {
    this.joined.push(after);
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.connection = controller;
        signal.addEventListener("abort", () => controller.error(new Error("aborted")));
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };

  async load(): Promise<boolean> {
    this.loads++;
    this.store.dispatch({ type: "thread_loaded", thread: "c1", messages: [...this.messages], olderToken: "" });
    this.live.loaded("c1");
    return true;
  }

  async send(...events: Sent[]): Promise<void> {
    await eventually(() => expect(this.connection).not.toBeNull());
    for (const [run_id, seq, kind, data] of events) {
      const frame = `event: ${kind}\ndata: ${JSON.stringify({ run_id, seq, ...data })}\n\n`;
      this.connection?.enqueue(new TextEncoder().encode(frame));
    }
  }

  drop(): void {
    const { connection } = this;
    this.connection = null;
    connection?.close();
  }

  get shown(): string[] {
    return this.all.map((message) => `${visibleBody(message).text} (${message.state})`);
  }

  get all(): Message[] {
    return this.store.get().threads.c1?.messages ?? [];
  }
}

describe("the open conversation", () => {
  test("shows a run that began elsewhere from its message to its end", async () => {
    const server = new Server();
    server.messages = stored("r1", "one", "complete");
    await server.load();
    expect(server.joined).toEqual(["r1:0"]);
    server.messages = [...server.messages, ...stored("r2", "", "partial")];
    await server.send(began("r2"), text("r2", 2, "two", 0));
    await eventually(() =>
      expect(server.shown).toEqual([
        ...["ask r1 (complete)", "one (complete)", "ask r2 (complete)", "two (streaming)"],
      ]),
    );
    await server.send(text("r2", 3, "!", 3), done("r2", 4));
    await eventually(() => expect(server.shown.at(-1)).toBe("two! (complete)"));
    expect(server.ended).toEqual(["a-r2"]);
    expect(server.loads).toBe(2);
  });

  test("goes on with an answer that was being written when it was loaded, and never shows less of it", async () => {
    const server = new Server();
    server.messages = stored("r1", "half of", "partial");
    await server.load();
    expect(server.joined).toEqual(["r1:0"]);
    await server.send(began("r1"), text("r1", 2, "half", 0));
    await eventually(() => expect(server.all.at(-1)?.text).toBe("half"));
    expect(server.shown.at(-1)).toBe("half of (streaming)");
    await server.send(text("r1", 3, " of it all", 4), done("r1", 4));
    await eventually(() => expect(server.shown.at(-1)).toBe("half of it all (complete)"));
  });

  test("goes on after a cut without losing or repeating anything", async () => {
    const server = new Server();
    server.messages = stored("r1", "", "partial");
    await server.load();
    await server.send(began("r1"), text("r1", 2, "one ", 0));
    await eventually(() => expect(server.all.at(-1)?.text).toBe("one "));
    server.drop();
    await server.send(text("r1", 2, "one ", 0), text("r1", 3, "two", 4), done("r1", 4));
    await eventually(() => expect(server.shown.at(-1)).toBe("one two (complete)"));
    expect(server.joined).toEqual(["r1:0", "r1:2"]);
  });

  test("goes on with an answer that had failed and is tried again", async () => {
    const server = new Server();
    server.messages = stored("r1", "", "partial");
    await server.load();
    const failed: Sent = ["r1", 3, "error", { code: "provider_unavailable", message: "", request_id: "" }];
    await server.send(began("r1"), text("r1", 2, "half", 0), failed);
    await eventually(() => expect(server.shown.at(-1)).toBe("half (failed)"));
    await server.send(text("r1", 7, "whole", 0));
    await eventually(() => expect(server.shown.at(-1)).toBe("whole (streaming)"));
    expect(server.all.at(-1)?.problem).toBeNull();
    await server.send(text("r1", 8, "!", 5), done("r1", 9));
    await eventually(() => expect(server.shown.at(-1)).toBe("whole! (complete)"));
    expect(server.ended).toEqual(["a-r1", "a-r1"]);
  });

  test("also where the end and what follows it come together", async () => {
    const server = new Server();
    server.messages = stored("r1", "", "partial");
    await server.load();
    const failed: Sent = ["r1", 2, "error", { code: "provider_unavailable", message: "", request_id: "" }];
    await server.send(began("r1"), failed, text("r1", 3, "whole", 0), done("r1", 4));
    await eventually(() => expect(server.shown.at(-1)).toBe("whole (complete)"));
  });

  test("also where it had failed before the conversation was opened, and others came after it", async () => {
    const server = new Server();
    server.messages = [...stored("r1", "", "failed"), ...stored("r2", "two", "complete")];
    await server.load();
    expect(server.joined).toEqual(["r2:0"]);
    await server.send(began("r2"), text("r2", 2, "two", 0), done("r2", 3));
    server.messages = [...stored("r1", "", "partial"), ...stored("r2", "two", "complete")];
    await server.send(began("r1"), text("r1", 2, "one", 0));
    await eventually(() => expect(server.shown[1]).toBe("one (streaming)"));
    await server.send(done("r1", 3));
    await eventually(() => expect(server.shown[1]).toBe("one (complete)"));
    expect(server.shown[3]).toBe("two (complete)");
  });

  test("leaves runs of other branches alone", async () => {
    const server = new Server();
    server.messages = stored("r1", "one", "complete");
    await server.load();
    await server.send(began("r9"), text("r9", 2, "elsewhere", 0));
    await eventually(() => expect(server.loads).toBe(2));
    await server.send(text("r9", 3, "!", 9), done("r9", 4));
    server.messages = [...server.messages, ...stored("r2", "", "partial")];
    await server.send(began("r2"), text("r2", 2, "here", 0));
    await eventually(() => expect(server.shown.at(-1)).toBe("here (streaming)"));
    expect(server.loads).toBe(3);
  });

  test("rests while its turn has a connection of its own, and then goes on after it", async () => {
    const server = new Server();
    server.messages = stored("r1", "one", "complete");
    await server.load();
    await server.send(began("r1"), done("r1", 2));
    const turn = { kind: "new" as const, text: "hi", clientMessageId: "m1" };
    server.own.add("k1");
    server.store.dispatch({ type: "turn_sent", thread: "c1", turn, answerKey: "k1", queued: false });
    server.live.settle("c1");
    const events = [
      { kind: "run", run_id: "r2", seq: 1, conversation_id: "c1", message_id: "a", user_message_id: "u", model: "" },
      { kind: "done", run_id: "r2", seq: 2, status: "completed", message_id: "a" },
    ] as RunEvent[];
    server.store.dispatch({ type: "run_events", thread: "c1", answerKey: "k1", events, at: 0 });
    server.live.saw("c1", events);
    expect(server.joined).toEqual(["r1:0"]);
    server.own.clear();
    server.live.loaded("c1");
    expect(server.joined).toEqual(["r1:0", "r2:2"]);
    expect(server.loads).toBe(1);
  });

  test("is followed in the background only until its answer has ended", async () => {
    const server = new Server();
    server.messages = stored("r1", "", "partial");
    await server.load();
    await server.send(began("r1"));
    server.live.show(null);
    await server.send(text("r1", 2, "on and on", 0), done("r1", 3));
    await eventually(() => expect(server.shown.at(-1)).toBe("on and on (complete)"));
    server.live.show("c1");
    await server.load();
    expect(server.joined).toEqual(["r1:0", "r1:3"]);
  });
});
