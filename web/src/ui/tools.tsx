// The tools that an answer has used: what each was asked and what it said.
import type { ReactNode } from "react";
import type { ToolCall } from "../chat/marks";
import { CheckIcon, CrossIcon } from "./icons";

export function Tools({ calls, live }: { calls: ToolCall[]; live: boolean }): ReactNode {
  return (
    <ul className="tools" aria-label="Tools used">
      {calls.map((call) => (
        <li key={call.id}>
          <Tool call={call} live={live} />
        </li>
      ))}
    </ul>
  );
}

function Tool({ call, live }: { call: ToolCall; live: boolean }): ReactNode {
  const { name, input, result } = call;
  const state = result ? (result.isError ? "failed" : "done") : live ? "running" : "unfinished";
  const said = { failed: "failed", done: "done", running: "is running", unfinished: "was not finished" }[state];
  const asked = inputText(input);
  return (
    <details className={`tool ${state}`}>
      <summary>
        {state === "running" && <span className="spinner" />}
        {state === "done" && <CheckIcon />}
        {(state === "failed" || state === "unfinished") && <CrossIcon />}
        <span className="tool-name">{name.replaceAll("_", " ")}</span>
        <span className="visually-hidden"> {said}</span>
      </summary>
      <div className="tool-body">
        {asked !== "" && (
          <>
            <h3>Asked</h3>
            <pre>{asked}</pre>
          </>
        )}
        <h3>{state === "failed" ? "Failed" : "Answered"}</h3>
        <pre>{result ? result.content || "(nothing)" : live ? "…" : "It is not known what came of it."}</pre>
      </div>
    </details>
  );
}

/** "" where nothing was handed over. */
function inputText(input: unknown): string {
  if (input === null || input === undefined) return "";
  if (typeof input === "object" && Object.keys(input).length === 0) return "";
  return typeof input === "string" ? input : JSON.stringify(input, null, 2);
}
