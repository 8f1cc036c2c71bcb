import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, test } from "vitest";
import { Markdown } from "./markdown";
import { plainText } from "./plain-text";

const html = (text: string) => renderToStaticMarkup(<Markdown text={text} phase="whole" />);

describe("an answer is drawn", () => {
  test("with tables, task lists, strike-through and bare addresses", () => {
    const out = html("| a | b |\n|---|:-:|\n| 1 | 2 |\n\n- [x] done\n- ~~no~~\n\nhttps://example.com");
    expect(out).toContain('<th scope="col" class="align-center">b</th>');
    expect(out).toContain('<input type="checkbox" disabled="" aria-label="done" checked=""/>');
    expect(out).toContain("<del>no</del>");
    expect(out).toContain('href="https://example.com/"');
  });

  test("with its headings below the page's own", () => {
    expect(html("# One\n\n###### Six")).toMatch(/<h3[^>]*>One<\/h3><h6[^>]*>Six<\/h6>/);
    expect(html("## Two\n\n### Three\n\n# One")).toMatch(/<h3[^>]*>Two<\/h3><h4[^>]*>Three<\/h4><h3[^>]*>One<\/h3>/);
  });

  test("with each block running its own way, and code from the left", () => {
    const blocks = ["## שלום", "Hello", "- אחת\n\n  שתיים", "> Hi", "| א |\n|---|\n| ב |"];
    for (const block of blocks) {
      expect(html(block).match(/ dir="auto"/g)).toHaveLength(1);
      expect(html(block)).toMatch(/^<div class="markdown"><[^>]* dir="auto"/);
    }
    expect(html("שלום `x()`")).toMatch(/<p dir="auto">.*<code dir="ltr">/);
  });

  test("with links that open elsewhere and tell nothing", () => {
    expect(html("[x](https://example.com)")).toContain('target="_blank" rel="noopener noreferrer"');
  });
});

describe("an answer cannot", () => {
  test.each([
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java&#10;script:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:x)",
    "[x](file:///etc/passwd)",
    "[x](/v1/conversations)",
    "[x](#/c/other)",
    "[x][r]\n\n[r]: javascript:alert(1)",
    "<javascript:alert(1)>",
  ])("make a link of %s", (text) => {
    expect(html(text)).not.toContain("href");
  });

  test.each([
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "a <b onclick='x'>b</b>",
    "<style>*{}</style>",
  ])("bring its own HTML: %s", (text) => {
    const inside = html(text)
      .replace('<div class="markdown">', "")
      .replace(/<p dir="auto">|<\/?(p|div)>/g, "");
    expect(inside).not.toMatch(/<(?!\/div)/);
  });

  test.each([
    "![a chart](https://example.com/x.png)",
    "![a chart][r]\n\n[r]: https://example.com/x.png",
  ])("load a picture: %s becomes a link", (text) => {
    const out = html(text);
    expect(out).not.toMatch(/<img|<image|src=|url\(/);
    expect(out).toMatch(/href="https:\/\/example.com\/x.png".*a chart/);
  });

  test("load a picture from a data address either", () => {
    expect(html("![a chart](data:image/png;base64,AAAA)")).toBe(
      '<div class="markdown"><p dir="auto">a chart</p></div>',
    );
  });
});

test("an answer is read aloud without its marks", () => {
  const text =
    "# Tides\n\nThe **moon** [pulls](https://example.com).\n\n- one\n- two\n\n```js\nx()\n```\n\n![a map](https://x.example/y)";
  expect(plainText(text)).toBe("Tides The moon pulls. one two js code: x(). image: a map");
});
