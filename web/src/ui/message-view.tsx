// One message: what was said, how it ended and what it took.
import { memo, type ReactNode } from "react";
import type { ChatController } from "../chat/controller";
import { type Message, visibleText } from "../chat/message";
import type { Thread } from "../chat/state";
import { Markdown } from "../markdown/markdown";
import { CopyButton } from "./copy-button";
import { Mark, RetryIcon } from "./icons";
import { Notice } from "./notice";
import { UsageLine } from "./usage-line";

type Props = {
  message: Message;
  /** The run that is writing this message. */
  active: Thread["active"];
  isLast: boolean;
  /** The message that this one answers. */
  asked: string;
  thread: string;
  controller: ChatController;
};

export const MessageView = memo(function MessageView(props: Props): ReactNode {
  return props.message.role === "user" ? <Asked {...props} /> : <Answer {...props} />;
});

function Asked({ message, thread, controller }: Props): ReactNode {
  return (
    <article className="message asked">
      <h2 className="visually-hidden">You said</h2>
      <div className="bubble">{message.text}</div>
      {message.state === "unsent" && message.problem && (
        <Notice problem={message.problem} onRetry={() => controller.resend(thread, message)} alert>
          <button type="button" className="quiet small" onClick={() => controller.discard(thread, message)}>
            Discard
          </button>
        </Notice>
      )}
    </article>
  );
}

const LABELS: Partial<Record<Message["state"], string>> = {
  cancelled: "Stopped",
  interrupted: "Interrupted",
  limited: "Cut off at the model's length limit",
};

function Answer({ message, active, isLast, asked, thread, controller }: Props): ReactNode {
  const text = visibleText(message);
  const live = active !== null;
  const phase = live ? "growing" : message.state === "complete" ? "whole" : "cut";
  const label = LABELS[message.state];
  const again = isLast && asked !== "" ? () => controller.send(thread, asked) : undefined;
  return (
    <article className="message answer" aria-busy={live}>
      <h2 className="visually-hidden">Parley said</h2>
      <div className="avatar">
        <Mark size={28} />
      </div>
      <div className="body">
        {message.reasoning && (
          <details className="reasoning">
            <summary>{live && text === "" ? "Thinking…" : "Thoughts"}</summary>
            <p>{message.reasoning}</p>
          </details>
        )}
        {text !== "" && <Markdown text={text} phase={phase} />}
        {live && text === "" && <Thinking />}
        {active?.connection === "waiting" && (
          <p className="connection" role="status">
            Connection lost. Reconnecting…
          </p>
        )}
        {label && !live && (
          <p className="label">
            {label}
            {message.state === "interrupted" && again && (
              <button type="button" className="quiet small" onClick={again}>
                <RetryIcon /> Try again
              </button>
            )}
          </p>
        )}
        {message.state === "complete" && text === "" && <p className="label">The model had nothing to say.</p>}
        {message.state === "failed" && !message.problem && (
          <p className="label">
            This answer failed.
            {again && (
              <button type="button" className="quiet small" onClick={again}>
                <RetryIcon /> Try again
              </button>
            )}
          </p>
        )}
        {message.problem && <Notice problem={message.problem} onRetry={again} />}
        {!live && text !== "" && (
          <footer>
            <CopyButton text={text} label="Copy" />
            <UsageLine model={message.model} usage={message.usage} />
          </footer>
        )}
      </div>
    </article>
  );
}

function Thinking(): ReactNode {
  return (
    <p className="thinking">
      <span className="visually-hidden">Thinking</span>
      <i />
      <i />
      <i />
    </p>
  );
}
