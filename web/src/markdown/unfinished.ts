// Makes the end of a text that is still being written look as it will: `**bo` is shown as bold, not as asterisks.
import type { RootContent } from "mdast";
import { parse } from "./parse";

/** The last block of an unfinished text with its open marks closed; `source` is its text to the end. */
export function completed(node: RootContent, source: string): RootContent {
  if (node.type === "code" || node.type === "html" || node.type === "thematicBreak" || node.type === "definition")
    return node;
  const closed = closeMarks(source);
  if (closed === source) return node;
  const children = parse(closed).children;
  // Only if it is still one block of the same kind has the guess been right.
  return children.length === 1 && children[0]?.type === node.type ? children[0] : node;
}

/** The text with what is open in its last paragraph closed, and with marks that mean nothing yet left out. */
export function closeMarks(source: string): string {
  const start = lastPart(source);
  const part = source.slice(start);
  return part.includes("```") ? source : source.slice(0, start) + closePart(part);
}

/** What a line of a list or quotation begins with. */
const LINE_MARKS = /^(?:[ \t]*(?:[-*+]|\d+[.)])[ \t]+|[ \t]*>[ \t]*)+/;

/** Where the words of the last paragraph, list item or quotation begin. */
function lastPart(source: string): number {
  let end = source.length;
  while (true) {
    const start = end === 0 ? 0 : source.lastIndexOf("\n", end - 1) + 1;
    const line = source.slice(start, end);
    if (line.trim() === "" && end < source.length) return end + 1;
    const marks = LINE_MARKS.exec(line);
    if (marks) return start + marks[0].length;
    if (start === 0) return 0;
    end = start - 1;
  }
}

function closePart(part: string): string {
  if (count(part, "`") % 2 === 1) return part.endsWith("`") ? part.slice(0, -1) : `${part}\``;
  let text = withoutOpenLink(part);
  // A mark at the very end has nothing to mark yet.
  text = text.replace(/(^|[\s([])(\*{1,3}|_{1,3}|~{1,2})$/, "$1");
  if (count(prose(text), "**") % 2 === 1)
    text = text.endsWith("*") && !text.endsWith("**") ? `${text}*` : close(text, "**");
  if (count(prose(text), "~~") % 2 === 1)
    text = text.endsWith("~") && !text.endsWith("~~") ? `${text}~` : close(text, "~~");
  const single = prose(text).replaceAll("**", "");
  if (count(single, "*") % 2 === 1 && /(^|[\s([])\*\S[^*]*$/.test(single)) text = close(text, "*");
  return text;
}

/** A link that has no end yet: its words alone. A picture: nothing yet. */
function withoutOpenLink(part: string): string {
  const link = /(!?)\[([^\]]*)(?:\](?:\([^)]*)?)?$/.exec(prose(part));
  if (!link || /^\[[ xX]?\]?$/.test(link[0])) return part;
  const words = link[1] ? "" : part.slice(link.index + 1, link.index + 1 + (link[2]?.length ?? 0));
  return part.slice(0, link.index) + words;
}

/** The text with inline code blanked out, as long as it was. */
function prose(text: string): string {
  return text.replace(/`[^`]*`/g, (code) => "x".repeat(code.length));
}

function close(text: string, mark: string): string {
  const trimmed = text.trimEnd();
  return trimmed.endsWith(mark) ? trimmed.slice(0, -mark.length) : trimmed + mark;
}

function count(text: string, mark: string): number {
  return text.split(mark).length - 1;
}
