// The messages of one conversation.
import { type ReactNode, useLayoutEffect, useRef } from "react";
import type { ChatController } from "../chat/controller";
import { isLive } from "../chat/message";
import { NEW_THREAD } from "../chat/state";
import type { Thread } from "../chat/thread";
import { useAutoScroll } from "./auto-scroll";
import { DownIcon, Mark } from "./icons";
import { MessageView } from "./message-view";
import { Notice } from "./notice";

const SUGGESTIONS = [
  "Compare SQL and document databases in a table",
  "Write a Python function that merges sorted lists",
  "Plan a quiet weekend in a city by the sea",
  "Explain how tides work to a ten-year-old",
];

type Props = { id: string; thread: Thread | undefined; controller: ChatController; onSuggest: (text: string) => void };

export function ThreadView({ id, thread, controller, onSuggest }: Props): ReactNode {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const messages = thread?.messages ?? [];
  const isNew = id === NEW_THREAD && messages.length === 0;
  const { atEnd, toEnd } = useAutoScroll(scroller, content, !isNew);
  const lastSent = messages.findLast((message) => message.clientMessageId !== null)?.key;
  const firstId = messages[0]?.key;
  const anchor = useRef({ firstId, height: 0 });

  // biome-ignore lint/correctness/useExhaustiveDependencies: a message just sent is to be seen
  useLayoutEffect(() => {
    if (lastSent !== undefined) toEnd();
  }, [lastSent]);

  useLayoutEffect(() => {
    // Older messages came in above: what was read stays where it was.
    const box = scroller.current;
    if (!box) return;
    if (anchor.current.firstId !== firstId && !atEnd) box.scrollTop += box.scrollHeight - anchor.current.height;
    anchor.current = { firstId, height: box.scrollHeight };
  });

  const live = messages.some(isLive);
  return (
    <section className="thread" aria-label="Messages" aria-busy={live || thread?.status === "loading"}>
      <div className="scroller" ref={scroller} tabIndex={0}>
        <div className="messages" ref={content}>
          {isNew && <Welcome onSuggest={onSuggest} />}
          {thread?.status === "loading" && id !== NEW_THREAD && <p className="muted center">Loading…</p>}
          {thread?.problem && <Notice problem={thread.problem} onRetry={() => controller.open(id)} alert />}
          {thread && thread.olderToken !== "" && (
            <button
              type="button"
              className="quiet center"
              onClick={() => controller.loadOlder(id)}
              disabled={thread.loadingOlder}
            >
              {thread.loadingOlder ? "Loading…" : "Show earlier messages"}
            </button>
          )}
          {messages.map((message) => (
            <MessageView key={message.key} message={message} busy={live} thread={id} controller={controller} />
          ))}
        </div>
      </div>
      {!atEnd && (
        <button type="button" className="jump" onClick={toEnd}>
          <DownIcon /> Jump to latest
        </button>
      )}
    </section>
  );
}

function Welcome({ onSuggest }: { onSuggest: (text: string) => void }): ReactNode {
  return (
    <div className="welcome">
      <Mark size={52} />
      <h2>What shall we talk about?</h2>
      <ul>
        {SUGGESTIONS.map((text) => (
          <li key={text}>
            <button type="button" onClick={() => onSuggest(text)}>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
