import type { Nodes } from "mdast";
import { describe, expect, test } from "vitest";
import { BlockParser } from "./blocks";
import { parse } from "./parse";
import { closeMarks } from "./unfinished";

const DOCUMENT = `# Title

A paragraph with **bold**, *emphasis*, \`code\` and a [link](https://example.com).
It goes on
***not a rule*** here
#hashtag too

- one
- two
  continued

  with a paragraph
  - nested
- [x] done

1. first
2. second

| a | b |
|---|:-:|
| 1 | 2 |

\`\`\`python
print("hi")

# not a heading
\`\`\`

> quote
lazy

Setext
---

~~~
tildes
~~~
<b>html</b>

    indented

Last words 👋🏽 www.example.org`;

/** A tree without its positions, which count from where the parsing began. */
function shape(node: Nodes): unknown {
  const { position: _position, ...rest } = node as Nodes & { position?: unknown };
  return "children" in node ? { ...rest, children: node.children.map(shape) } : rest;
}

const shapes = (nodes: Nodes[]) => nodes.map(shape);

describe("blocks of a growing text", () => {
  test.each([1, 2, 7, 64])("are in the end those of the whole text, grown by %d characters at a time", (step) => {
    const parser = new BlockParser();
    for (let end = 0; end < DOCUMENT.length; end += step) parser.update(DOCUMENT.slice(0, end), "growing");
    const blocks = parser.update(DOCUMENT, "whole");
    expect(shapes(blocks.map((block) => block.node))).toEqual(shapes(parse(DOCUMENT).children));
  });

  test("are at each moment those of the text so far, but for the last one's open marks", () => {
    const parser = new BlockParser();
    for (let end = 0; end <= DOCUMENT.length; end++) {
      const text = DOCUMENT.slice(0, end);
      const blocks = parser.update(text, "growing").slice(0, -1);
      expect(shapes(blocks.map((block) => block.node)), `at ${end}`).toEqual(shapes(parse(text).children.slice(0, -1)));
    }
  });

  test("stay the same objects once another block has begun", () => {
    const parser = new BlockParser();
    const before = parser.update("one\n\ntwo\n\nthree", "growing");
    const later = parser.update("one\n\ntwo\n\nthree and more\n\nfour", "growing");
    expect(later[0]).toBe(before[0]);
  });

  test("are right again when the text does not continue what came before", () => {
    const parser = new BlockParser();
    parser.update("# One\n\ntwo\n\nthree\n\n", "growing");
    expect(shapes(parser.update("other", "growing").map((block) => block.node))).toEqual(
      shapes(parse("other").children),
    );
  });

  test("show a text that was cut off without its open marks", () => {
    const [block] = new BlockParser().update("cut **he", "cut");
    expect(shapes([block?.node as Nodes])).toEqual(shapes(parse("cut **he**").children));
  });

  test("have their own starting places", () => {
    const parser = new BlockParser();
    for (let end = 0; end <= DOCUMENT.length; end++) {
      const starts = parser.update(DOCUMENT.slice(0, end), "growing").map((block) => block.start);
      expect(new Set(starts).size).toBe(starts.length);
    }
  });

  test("know a definition that comes after its use when the text is whole", () => {
    const text = "See [this][x].\n\nMore.\n\n[x]: https://example.com\n";
    const parser = new BlockParser();
    parser.update(text, "growing");
    expect(shapes(parser.update(text, "whole").map((block) => block.node))).toEqual(shapes(parse(text).children));
  });
});

test.each([
  ["some **bo", "some **bo**"],
  ["some **bold", "some **bold**"],
  ["some **bold**", "some **bold**"],
  ["some **bold*", "some **bold**"],
  ["some **", "some "],
  ["a *wo", "a *wo*"],
  ["2 * 3 is", "2 * 3 is"],
  ["a ~~gone", "a ~~gone~~"],
  ["run `npm", "run `npm`"],
  ["run `", "run "],
  ["see [the li", "see the li"],
  ["see [the link](https://exa", "see the link"],
  ["see [the link](https://example.com)", "see [the link](https://example.com)"],
  ["![a pic", ""],
  ["![a pic](https://exa", ""],
  ["- [ ] do", "- [ ] do"],
  ["- done **one**\n- **two", "- done **one**\n- **two**"],
  ["first *a\n\nthen **b", "first *a\n\nthen **b**"],
  ["> for *", "> for "],
  ["`a ** b` and", "`a ** b` and"],
])("an unfinished %j is shown as %j", (source, closed) => {
  expect(closeMarks(source)).toBe(closed);
});
