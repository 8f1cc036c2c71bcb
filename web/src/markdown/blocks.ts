// A growing Markdown text as blocks, of which only the last is parsed again when text is added.
import type { RootContent } from "mdast";
import { parse, startOf } from "./parse";
import { completed } from "./unfinished";

/** A top-level piece of the text. `node` is the same object as long as the piece has not changed. */
export type Block = {
  /** Where it starts in the text; unique and stable while the text grows. */
  start: number;
  node: RootContent;
  /** More may still be added to it. */
  open: boolean;
};

/** `[label]: target` lines, which change what stands before them. */
const DEFINITION = /^ {0,3}\[[^\]\n]+\]:/m;

/** More may come; no more will come, but it was cut off; it is as it was meant. */
export type Phase = "growing" | "cut" | "whole";

export class BlockParser {
  /** Blocks that nothing appended can change, and the text they came from. */
  private closed: Block[] = [];
  private closedText = "";
  private last: { text: string; phase: Phase; blocks: Block[] } | null = null;

  /** The blocks of `text`. Cheap when it continues the text of the call before; right for any text. */
  update(text: string, phase: Phase): Block[] {
    if (this.last?.text === text && this.last.phase === phase) return this.last.blocks;
    const blocks = this.parse(text, phase);
    this.last = { text, phase, blocks };
    return blocks;
  }

  private parse(text: string, phase: Phase): Block[] {
    const finished = phase !== "growing";
    if (!text.startsWith(this.closedText) || (finished && DEFINITION.test(text))) {
      this.closed = [];
      this.closedText = "";
    }
    const from = this.closedText.length;
    const tail = text.slice(from);
    const nodes = parse(tail).children;
    const starts = nodes.map((node) => lineStart(tail, startOf(node)));
    const closing = finished ? 0 : closedCount(starts, tail);
    const blocks = nodes.map((node, i) => {
      const start = starts[i] ?? 0;
      const isLast = i === nodes.length - 1;
      const drawn = isLast && phase !== "whole" ? completed(node, tail.slice(start)) : node;
      return { start: from + start, node: drawn, open: isLast && !finished };
    });
    if (closing > 0) {
      this.closed = [...this.closed, ...blocks.slice(0, closing)];
      this.closedText += tail.slice(0, starts[closing]);
    }
    return [...this.closed, ...blocks.slice(closing)];
  }
}

/** A block is closed once another one has begun with a whole line: half a line may yet turn out to continue the block before. */
function closedCount(starts: number[], text: string): number {
  let last = starts.length - 1;
  while (last > 0 && !text.includes("\n", starts[last])) last--;
  return Math.max(0, last);
}

function lineStart(text: string, offset: number): number {
  return text.lastIndexOf("\n", offset - 1) + 1;
}
