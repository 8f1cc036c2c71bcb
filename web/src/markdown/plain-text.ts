// Markdown as it is read aloud: words without marks.
import type { Nodes } from "mdast";
import { parse } from "./parse";

export function plainText(markdown: string): string {
  return say(parse(markdown)).replace(/\s+/g, " ").trim();
}

function say(node: Nodes): string {
  switch (node.type) {
    case "text":
    case "inlineCode":
    case "html":
      return node.value;
    case "code":
      return ` ${node.lang ? `${node.lang} ` : ""}code: ${node.value}. `;
    case "image":
    case "imageReference":
      return node.alt ? `image: ${node.alt}` : "image";
    case "break":
      return " ";
    case "tableCell":
      return `${node.children.map(say).join("")}, `;
    default: {
      if (!("children" in node)) return "";
      const inside = (node.children as Nodes[]).map(say).join("");
      const isBlock = ["paragraph", "heading", "listItem", "tableRow", "blockquote"].includes(node.type);
      return isBlock && inside !== "" ? `${inside}\n` : inside;
    }
  }
}
