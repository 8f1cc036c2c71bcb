// Server-sent events over fetch: EventSource can neither POST nor send an Authorization header.
import type { Timing } from "./connection";

export type SseFrame = { id: string; event: string; data: string };

/** Splits a byte stream into frames, wherever it was cut: inside a line, a line end or a UTF-8 character. */
export class SseParser {
  /** The server's wish for the wait before a reconnect, in milliseconds; null until it says. */
  retryMs: number | null = null;
  private readonly decoder = new TextDecoder("utf-8");
  private rest = "";
  private afterCr = false;
  private id = "";
  private event = "";
  private data: string[] = [];

  feed(bytes: Uint8Array): SseFrame[] {
    let text = this.decoder.decode(bytes, { stream: true });
    if (text === "") return [];
    // A line feed that ends a CR LF whose CR came with the last read is not a line of its own.
    if (this.afterCr && text.startsWith("\n")) text = text.slice(1);
    this.afterCr = text === "" ? false : text.endsWith("\r");
    const lines = (this.rest + text).split(/\r\n|\n|\r/);
    this.rest = lines.pop() ?? "";
    const frames: SseFrame[] = [];
    for (const line of lines) {
      const frame = this.line(line);
      if (frame) frames.push(frame);
    }
    return frames;
  }

  private line(line: string): SseFrame | null {
    if (line === "") return this.dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") this.data.push(value);
    else if (field === "event") this.event = value;
    else if (field === "id" && !value.includes("\0")) this.id = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
    return null;
  }

  private dispatch(): SseFrame | null {
    const frame = { id: this.id, event: this.event || "message", data: this.data.join("\n") };
    const empty = this.data.length === 0;
    this.event = "";
    this.data = [];
    return empty ? null : frame;
  }
}

/**
 * Yields the frames of each read together, so that what arrived at once is shown at once.
 *
 * Heartbeat comments yield nothing but keep the connection alive; after `idleMs` without a byte (`wokenIdleMs` when the machine has just
 * woken up) the connection counts as dead and the iteration ends as if the server had closed it.
 */
export async function* readSse(
  body: ReadableStream<Uint8Array>,
  parser: SseParser,
  { idleMs, wokenIdleMs, onWake }: Pick<Timing, "idleMs" | "wokenIdleMs" | "onWake">,
): AsyncGenerator<SseFrame[]> {
  const reader = body.getReader();
  let heard = Date.now();
  let giveUp = (): void => undefined;
  const dead = new Promise<null>((resolve) => {
    giveUp = () => resolve(null);
  });
  const sleep = onWake(() => {
    if (Date.now() - heard > wokenIdleMs) giveUp();
  });
  try {
    while (true) {
      const timer = setTimeout(giveUp, idleMs);
      const chunk = await Promise.race([reader.read(), dead]).finally(() => clearTimeout(timer));
      if (chunk === null || chunk.done) return;
      heard = Date.now();
      const frames = parser.feed(chunk.value);
      if (frames.length > 0) yield frames;
    }
  } finally {
    sleep();
    // Cancelling closes the socket; what it answers no longer matters.
    reader.cancel().catch(() => undefined);
  }
}
