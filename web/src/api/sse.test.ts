import { describe, expect, test } from "vitest";
import { readSse, type SseFrame, SseParser } from "./sse";

const bytes = (text: string) => new TextEncoder().encode(text);

function parseIn(chunks: Uint8Array[]): SseFrame[] {
  const parser = new SseParser();
  return chunks.flatMap((chunk) => parser.feed(chunk));
}

const awake = (idleMs: number) => ({ idleMs, wokenIdleMs: idleMs, onWake: () => () => undefined });

const STREAM = [
  ": ok\n\n",
  'id: r:1\nevent: run\ndata: {"seq":1}\n\n',
  ": ping\n\n",
  'id: r:2\r\nevent: text\r\ndata: {"delta":"Grüße 👋🏽"}\r\n\r\n',
  "id: r:3\revent: text\rdata: one\rdata: two\r\r",
  "event: empty\n\n",
  "data:no space\n\n",
].join("");

const FRAMES: SseFrame[] = [
  { id: "r:1", event: "run", data: '{"seq":1}' },
  { id: "r:2", event: "text", data: '{"delta":"Grüße 👋🏽"}' },
  { id: "r:3", event: "text", data: "one\ntwo" },
  { id: "r:3", event: "message", data: "no space" },
];

describe("a stream of frames", () => {
  test("is read the same wherever it is cut in two", () => {
    const all = bytes(STREAM);
    for (let cut = 0; cut <= all.length; cut++) {
      expect(parseIn([all.slice(0, cut), all.slice(cut)]), `cut at ${cut}`).toEqual(FRAMES);
    }
  });

  test("is read the same byte by byte", () => {
    expect(parseIn(Array.from(bytes(STREAM), (byte) => Uint8Array.of(byte)))).toEqual(FRAMES);
  });

  test("yields no frame that has not ended", () => {
    expect(parseIn([bytes("data: half")])).toEqual([]);
  });

  test("tells the server's wish for the wait before a reconnect", () => {
    const parser = new SseParser();
    parser.feed(bytes("retry: 3000\n\nretry: soon\n\n"));
    expect(parser.retryMs).toBe(3000);
  });
});

describe("reading a body", () => {
  test("hands on what came in one read together", async () => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(bytes("data: a\n\ndata: b\n\n"));
        controller.enqueue(bytes("data: c\n\n"));
        controller.close();
      },
    });
    const batches: string[][] = [];
    for await (const frames of readSse(body, new SseParser(), awake(1000)))
      batches.push(frames.map((frame) => frame.data));
    expect(batches).toEqual([["a", "b"], ["c"]]);
  });

  test("ends when nothing has come for too long, and closes the connection", async () => {
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(bytes("data: a\n\n")),
      cancel: () => {
        cancelled = true;
      },
    });
    const seen: string[] = [];
    for await (const frames of readSse(body, new SseParser(), awake(5)))
      seen.push(...frames.map((frame) => frame.data));
    expect(seen).toEqual(["a"]);
    expect(cancelled).toBe(true);
  });
});
