// One answer: its words, thoughts and tools, how it ended and what it took.
import { Fragment, type ReactNode } from "react";
import { piecesOf } from "../chat/marks";
import { isLive, type Message, visibleBody } from "../chat/message";
import { Markdown } from "../markdown/markdown";
import { Branches } from "./branches";
import { CopyButton } from "./copy-button";
import { ContinueIcon, Mark, RetryIcon } from "./icons";
import type { MessageProps } from "./message-props";
import { Notice } from "./notice";
import { Tools } from "./tools";
import { Unsent } from "./unsent";
import { UsageLine } from "./usage-line";

const LABELS: Partial<Record<Message["state"], string>> = {
  cancelled: "Stopped",
  interrupted: "Interrupted",
  limited: "Cut off at the model's length limit",
};

export function Answer({ message, busy, thread, controller }: MessageProps): ReactNode {
  const { state } = message;
  const body = visibleBody(message);
  const live = isLive(message);
  const kept = body.text !== "" || body.marks.length > 0;
  const stored = message.id !== null && !live;
  const again = stored && !busy ? () => controller.regenerate(thread, message) : undefined;
  const label = LABELS[state] ?? (state === "failed" && !message.problem ? "This answer failed." : undefined);
  return (
    <article className="message answer" aria-busy={live}>
      <h2 className="visually-hidden">Parley said</h2>
      <div className="avatar">
        <Mark size={28} />
      </div>
      <div className="body">
        <Body message={message} live={live} />
        {state === "queued" && <Queued message={message} onCancel={() => controller.stop(thread, message)} />}
        {live && message.connection === "waiting" && (
          <p className="connection" role="status">
            Reconnecting…
          </p>
        )}
        {state === "complete" && !kept && <p className="label">The model had nothing to say.</p>}
        {stored && label && (
          <p className="label">
            {label}
            {state !== "failed" && kept && !busy && (
              <button type="button" className="small" onClick={() => controller.continue(thread, message)}>
                <ContinueIcon /> Continue
              </button>
            )}
            {state === "failed" && again && <Again label="Try again" onClick={again} />}
          </p>
        )}
        {state === "unsent" ? (
          <Unsent message={message} thread={thread} controller={controller} />
        ) : (
          message.problem && <Notice problem={message.problem} onRetry={again} />
        )}
        {stored && state !== "unsent" && (
          <footer>
            {body.text !== "" && <CopyButton text={textOf(message)} label="Copy" />}
            {again && state !== "failed" && <Again label="Regenerate" onClick={again} />}
            {!busy && <Branches message={message} thread={thread} controller={controller} />}
            {kept && <UsageLine model={message.model} usage={message.usage} />}
          </footer>
        )}
      </div>
    </article>
  );
}

function Again({ label, onClick }: { label: string; onClick: () => void }): ReactNode {
  return (
    <button type="button" className="quiet small" onClick={onClick}>
      <RetryIcon /> {label}
    </button>
  );
}

function Body({ message, live }: { message: Message; live: boolean }): ReactNode {
  const pieces = piecesOf(visibleBody(message));
  const last = pieces.at(-1);
  const running = last?.kind === "tools" && last.calls.some((call) => call.result === null);
  // While words come they say enough.
  const waiting = live && message.state !== "queued" && (last?.kind !== "text" || message.progress !== "");
  const silent = live && !waiting && !running && message.state === "streaming" && message.connection === "open";
  const ended = message.state === "complete" ? "whole" : "cut";
  return (
    <>
      {pieces.map((piece, index) => {
        const isLast = index === pieces.length - 1;
        // Pieces are only ever appended or cut off at the end.
        const key = index;
        if (piece.kind === "tools") return <Tools key={key} calls={piece.calls} live={live} />;
        if (piece.kind === "text") {
          const phase = isLast ? (live ? "growing" : ended) : "whole";
          return <Markdown key={key} text={piece.text} phase={phase} />;
        }
        return (
          <details key={key} className="reasoning">
            <summary>{live && isLast ? "Thinking…" : "Thoughts"}</summary>
            <p dir="auto">{piece.text}</p>
          </details>
        );
      })}
      <Fragment key="waiting">
        {waiting && (!running || message.progress !== "") && <Thinking words={message.progress} />}
        {/* Each event makes a new one, so that it comes into sight only when there has been none for a while. */}
        {silent && <Dots key={message.lastSeq} className="thinking late" />}
      </Fragment>
    </>
  );
}

function Queued({ message, onCancel }: { message: Message; onCancel: () => void }): ReactNode {
  // What was sent from here waits because the person said so.
  const words = message.key === message.id ? "Waiting to begin…" : "Waiting for your other answer…";
  return (
    <p className="label queued" role="status">
      {words}
      <button type="button" className="quiet small" onClick={onCancel} disabled={message.stopping}>
        {message.stopping ? "Cancelling…" : "Cancel"}
      </button>
    </p>
  );
}

function Thinking({ words }: { words: string }): ReactNode {
  return (
    <Dots className="thinking">
      {words === "" ? <span className="visually-hidden">Thinking</span> : <span className="progress">{words}</span>}
    </Dots>
  );
}

function Dots({ className, children }: { className: string; children?: ReactNode }): ReactNode {
  return (
    <p className={className}>
      {children}
      <i />
      <i />
      <i />
    </p>
  );
}

/** The words alone, those of each step as a paragraph of their own. */
function textOf(message: Message): string {
  const texts = piecesOf(visibleBody(message)).map((piece) => (piece.kind === "text" ? piece.text : ""));
  return texts.filter((text) => text !== "").join("\n\n");
}
