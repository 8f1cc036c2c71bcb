// A block of code with its language, colours and a Copy button.
import type { ElementContent, RootContent } from "hast";
import { type ReactNode, useMemo } from "react";
import { CopyButton } from "../ui/copy-button";
import { useHighlight } from "./highlight";

/** While code is being written it is coloured only up to this length, to keep each frame short. */
const LIVE_LIMIT = 6000;
/** Longer code than this is never coloured. */
const LIMIT = 100_000;

export function CodeBlock({ code, language, open }: { code: string; language: string; open: boolean }): ReactNode {
  const highlight = useHighlight();
  const coloured = useMemo(() => {
    if (!highlight || !language || code.length > (open ? LIVE_LIMIT : LIMIT)) return code;
    const tree = highlight(language.toLowerCase(), code);
    return tree ? tree.children.map(span) : code;
  }, [highlight, language, code, open]);
  return (
    <figure className="code" dir="ltr">
      <figcaption>
        <span>{language || "text"}</span>
        <CopyButton text={code} label="Copy code" />
      </figcaption>
      <pre tabIndex={0}>
        <code>{coloured}</code>
      </pre>
    </figure>
  );
}

function span(node: RootContent | ElementContent, index: number): ReactNode {
  if (node.type === "text") return node.value;
  if (node.type !== "element") return null;
  const classes = node.properties.className;
  return (
    <span key={index} className={Array.isArray(classes) ? classes.join(" ") : undefined}>
      {node.children.map(span)}
    </span>
  );
}
