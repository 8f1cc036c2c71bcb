// What an answer took: the model, tokens and money.
import type { ReactNode } from "react";
import type { Usage } from "../api/types";

export function UsageLine({ model, usage }: { model: string; usage: Usage | null }): ReactNode {
  const parts = [model, ...(usage ? usageParts(usage) : [])].filter((part) => part !== "");
  if (parts.length === 0) return null;
  return (
    <p className="usage" title={usage ? details(usage) : undefined}>
      {parts.join(" · ")}
    </p>
  );
}

function usageParts({ input_tokens, output_tokens, cost, estimated }: Usage): string[] {
  const about = estimated ? "≈ " : "";
  const tokens = `${about}${input_tokens.toLocaleString("en")} tokens in, ${output_tokens.toLocaleString("en")} out`;
  return cost === null || cost === undefined ? [tokens] : [tokens, `${about}${money(cost)}`];
}

function money(dollars: number): string {
  if (dollars === 0) return "$0";
  return dollars < 0.0001 ? "< $0.0001" : `$${dollars.toFixed(dollars < 0.01 ? 4 : 2)}`;
}

function details(usage: Usage): string {
  const cached =
    usage.cached_tokens > 0 ? `, ${usage.cached_tokens.toLocaleString("en")} of the input from the cache` : "";
  const reasoning =
    usage.reasoning_tokens > 0 ? `, ${usage.reasoning_tokens.toLocaleString("en")} of the output were thoughts` : "";
  return `${usage.total_tokens.toLocaleString("en")} tokens in all${cached}${reasoning}${usage.estimated ? "; estimated" : ""}`;
}
