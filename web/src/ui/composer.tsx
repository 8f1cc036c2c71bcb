// Where a message is written.
import {
  type KeyboardEvent,
  type ReactNode,
  type Ref,
  useImperativeHandle,
  useLayoutEffect,
  useRef,
  useState,
} from "react";
import { codePoints } from "../chat/code-points";
import type { Drafts } from "../chat/drafts";
import type { Message } from "../chat/message";
import { SendIcon, StopIcon } from "./icons";
import { TOUCH, useMedia } from "./media";

export const MAX_LENGTH = 10_000;
/** From here on the count is shown. */
const NEAR_MAX = 9_000;

type Props = {
  ref: Ref<HTMLTextAreaElement>;
  id: string;
  drafts: Drafts;
  /** The answer that Stop stops. */
  active: Message | undefined;
  disabled: boolean;
  /** What to know before writing; empty: nothing. */
  warning: string;
  onSend: (text: string) => void;
  onStop: () => void;
};

export function Composer({ ref, id, drafts, active, disabled, warning, onSend, onStop }: Props): ReactNode {
  const area = useRef<HTMLTextAreaElement>(null);
  useImperativeHandle(ref, () => area.current as HTMLTextAreaElement);
  const touch = useMedia(TOUCH);
  const [text, setText] = useState(() => drafts.read(id));
  const [shownFor, setShownFor] = useState(id);
  if (shownFor !== id) {
    setShownFor(id);
    setText(drafts.read(id));
  }
  const length = codePoints(text);
  const tooLong = length > MAX_LENGTH;
  const blank = text.trim() === "";

  // biome-ignore lint/correctness/useExhaustiveDependencies: another conversation takes the focus
  useLayoutEffect(() => {
    if (!touch) area.current?.focus();
  }, [id, touch]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the height follows the text
  useLayoutEffect(() => {
    const element = area.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [text]);

  const write = (value: string): void => {
    setText(value);
    drafts.save(id, value);
  };

  const send = (): void => {
    if (blank || tooLong || disabled) return;
    onSend(text);
    write("");
    // With a finger the keyboard goes, so that the answer can be read.
    if (touch) area.current?.blur();
    else area.current?.focus();
  };

  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    // While an input method composes, Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing || event.keyCode === 229) return;
    if (touch) return;
    event.preventDefault();
    send();
  };

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className="composer-box">
        <textarea
          ref={area}
          dir="auto"
          rows={1}
          value={text}
          placeholder="Write a message"
          aria-label="Message"
          aria-describedby="composer-hint"
          aria-invalid={tooLong || undefined}
          disabled={disabled}
          enterKeyHint={touch ? "enter" : "send"}
          onChange={(event) => write(event.target.value)}
          onKeyDown={onKeyDown}
        />
        {active && (
          <button
            type="button"
            className="round stop"
            disabled={active.stopping}
            aria-label={active.stopping ? "Stopping" : "Stop"}
            title="Stop (Esc)"
            onClick={() => {
              onStop();
              if (!touch) area.current?.focus();
            }}
          >
            <StopIcon />
          </button>
        )}
        {/* While an answer is being written the server is asked, which asks the person what shall become of it. */}
        {(!active || !blank) && (
          <button
            type="submit"
            className="round send"
            disabled={blank || tooLong || disabled}
            aria-label="Send"
            title="Send (Enter)"
          >
            <SendIcon />
          </button>
        )}
      </div>
      <p className="warning" aria-live="polite">
        {warning}
      </p>
      <p id="composer-hint" className={tooLong ? "hint over" : "hint"}>
        {length > NEAR_MAX
          ? `${length.toLocaleString("en")} of ${MAX_LENGTH.toLocaleString("en")} characters${tooLong ? ": shorten it to send it" : ""}`
          : active
            ? active.stopping
              ? "Stopping…"
              : touch
                ? ""
                : "Esc stops the answer"
            : touch
              ? "Models make mistakes. Check what matters."
              : "Enter sends, Shift + Enter begins a new line. Models make mistakes."}
      </p>
    </form>
  );
}
