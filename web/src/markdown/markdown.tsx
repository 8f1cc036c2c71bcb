// An answer's Markdown as elements. There is no raw HTML, no script address and no remote picture: they come out as text and links.
import type { AlignType, Definition, Nodes, RootContent } from "mdast";
import { createContext, Fragment, memo, type ReactNode, useContext, useMemo, useState } from "react";
import { ImageIcon } from "../ui/icons";
import { type Block, BlockParser, type Phase } from "./blocks";
import { CodeBlock } from "./code-block";
import { hostOf, safeHref } from "./links";

/** What a piece of the text needs to know of the whole. */
type Whole = {
  /** Targets of `[text][label]` links, by label; none while the text grows. */
  definitions: ReadonlyMap<string, Definition>;
  /** Depth of the first heading: it comes right below the page's own, whatever the model began with. */
  topDepth: number;
};

const WholeContext = createContext<Whole>({ definitions: new Map(), topDepth: 1 });

export function Markdown({ text, phase }: { text: string; phase: Phase }): ReactNode {
  const [parser] = useState(() => new BlockParser());
  const blocks = parser.update(text, phase);
  const whole = useWhole(blocks, phase === "growing");
  return (
    <WholeContext value={whole}>
      <div className="markdown">
        {blocks.map((block) => (
          <BlockView key={block.start} node={block.node} open={block.open} />
        ))}
      </div>
    </WholeContext>
  );
}

const NONE: Whole["definitions"] = new Map();

function useWhole(blocks: Block[], growing: boolean): Whole {
  const first = blocks.find(({ node }) => node.type === "heading")?.node;
  const topDepth = first?.type === "heading" ? first.depth : 1;
  const definitions = useMemo(() => {
    if (growing) return NONE;
    const found = blocks.flatMap(({ node }) => (node.type === "definition" ? [node] : []));
    // The first of several with the same label counts.
    return found.length === 0 ? NONE : new Map(found.reverse().map((node) => [node.identifier, node]));
  }, [blocks, growing]);
  return useMemo(() => ({ definitions, topDepth }), [definitions, topDepth]);
}

const BlockView = memo(function BlockView({ node, open }: { node: RootContent; open: boolean }): ReactNode {
  // Each block runs the way its own first letter does, and what it holds runs with it.
  return <View node={node} open={open} dir="auto" />;
});

function children(node: { children: Nodes[] }): ReactNode {
  return node.children.map((child, index) => <View key={index} node={child} open={false} />);
}

type Dir = "auto" | undefined;

function View({ node, open, dir }: { node: Nodes; open: boolean; dir?: Dir }): ReactNode {
  switch (node.type) {
    case "text":
      return node.value;
    case "paragraph":
      return <p dir={dir}>{children(node)}</p>;
    case "heading":
      return (
        <Heading depth={node.depth} dir={dir}>
          {children(node)}
        </Heading>
      );
    case "emphasis":
      return <em>{children(node)}</em>;
    case "strong":
      return <strong>{children(node)}</strong>;
    case "delete":
      return <del>{children(node)}</del>;
    case "inlineCode":
      return <code dir="ltr">{node.value}</code>;
    case "code":
      return <CodeBlock code={node.value} language={node.lang ?? ""} open={open} />;
    case "blockquote":
      return <blockquote dir={dir}>{children(node)}</blockquote>;
    case "list":
      return node.ordered ? (
        <ol start={node.start ?? 1} dir={dir}>
          {children(node)}
        </ol>
      ) : (
        <ul dir={dir}>{children(node)}</ul>
      );
    case "listItem":
      return <Item node={node} />;
    case "thematicBreak":
      return <hr />;
    case "break":
      return <br />;
    case "table":
      return <Table rows={node.children} align={node.align ?? []} dir={dir} />;
    case "link":
      return <Link address={node.url}>{children(node)}</Link>;
    case "linkReference":
      return <Reference identifier={node.identifier}>{children(node)}</Reference>;
    case "image":
      return <Picture address={node.url} alt={node.alt ?? ""} />;
    case "imageReference":
      return <PictureReference identifier={node.identifier} alt={node.alt ?? ""} />;
    case "html":
      return node.value;
    default:
      return null;
  }
}

function Heading({ depth, dir, children: words }: { depth: number; dir: Dir; children: ReactNode }): ReactNode {
  const { topDepth } = useContext(WholeContext);
  // The page's own headings are h1 and h2.
  const Tag = (["h3", "h4", "h5"] as const)[Math.max(0, depth - topDepth)] ?? "h6";
  return <Tag dir={dir}>{words}</Tag>;
}

function Item({ node }: { node: Extract<Nodes, { type: "listItem" }> }): ReactNode {
  const isTask = typeof node.checked === "boolean";
  return (
    <li className={isTask ? "task" : undefined}>
      {isTask && (
        <input type="checkbox" checked={node.checked ?? false} disabled aria-label={node.checked ? "done" : "to do"} />
      )}
      {node.children.map((child, index) => {
        const tight = child.type === "paragraph" && !node.spread;
        return <Fragment key={index}>{tight ? children(child) : <View node={child} open={false} />}</Fragment>;
      })}
    </li>
  );
}

type TableProps = { rows: Extract<Nodes, { type: "tableRow" }>[]; align: AlignType[]; dir: Dir };

function Table({ rows, align, dir }: TableProps): ReactNode {
  const [head, ...body] = rows;
  const cells = (row: typeof head, Cell: "th" | "td") =>
    row?.children.map((cell, index) => (
      <Cell
        key={index}
        scope={Cell === "th" ? "col" : undefined}
        className={align[index] ? `align-${align[index]}` : undefined}
      >
        {children(cell)}
      </Cell>
    ));
  return (
    <div className="table" tabIndex={0} dir={dir}>
      <table>
        <thead>
          <tr>{cells(head, "th")}</tr>
        </thead>
        <tbody>
          {body.map((row, index) => (
            <tr key={index}>{cells(row, "td")}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Link({ address, children: words }: { address: string; children: ReactNode }): ReactNode {
  const href = safeHref(address);
  if (href === null) return words;
  return (
    <a href={href} target="_blank" rel="noopener noreferrer" title={href}>
      {words}
    </a>
  );
}

function Reference({ identifier, children: words }: { identifier: string; children: ReactNode }): ReactNode {
  const definition = useContext(WholeContext).definitions.get(identifier);
  return definition ? <Link address={definition.url}>{words}</Link> : words;
}

/** A picture is never fetched: the fetch alone would tell its server who reads what. */
function Picture({ address, alt }: { address: string; alt: string }): ReactNode {
  const href = safeHref(address);
  const words = alt || "picture";
  if (href === null) return words;
  return (
    <a className="picture" href={href} target="_blank" rel="noopener noreferrer" title={href}>
      <ImageIcon />
      {words} <span className="host">{hostOf(href)}</span>
    </a>
  );
}

function PictureReference({ identifier, alt }: { identifier: string; alt: string }): ReactNode {
  const definition = useContext(WholeContext).definitions.get(identifier);
  return definition ? <Picture address={definition.url} alt={alt} /> : alt;
}
