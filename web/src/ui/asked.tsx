// What the person wrote, and writing it anew.
import { type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { codePoints } from "../chat/code-points";
import { Branches } from "./branches";
import { MAX_LENGTH } from "./composer";
import { PencilIcon } from "./icons";
import { TOUCH, useMedia } from "./media";
import type { MessageProps } from "./message-props";
import { Unsent } from "./unsent";

export function Asked({ message, busy, thread, controller }: MessageProps): ReactNode {
  const [editing, setEditing] = useState(false);
  const pencil = useRef<HTMLButtonElement>(null);
  const editable = message.id !== null && message.state === "complete" && !busy;
  const close = (): void => {
    setEditing(false);
    // After the field is gone, where it was opened from has the focus again.
    requestAnimationFrame(() => pencil.current?.focus());
  };
  return (
    <article className="message asked">
      <h2 className="visually-hidden">You said</h2>
      {editing && editable ? (
        <Editor
          text={message.text}
          onSend={(text) => {
            setEditing(false);
            controller.edit(thread, message, text);
          }}
          onClose={close}
        />
      ) : (
        <div className="asked-row">
          {editable && (
            <button
              ref={pencil}
              type="button"
              className="icon-button small"
              aria-label="Edit message"
              title="Edit"
              onClick={() => setEditing(true)}
            >
              <PencilIcon />
            </button>
          )}
          <div className="bubble" dir="auto">
            {message.text}
          </div>
        </div>
      )}
      {!busy && !editing && <Branches message={message} thread={thread} controller={controller} />}
      <Unsent message={message} thread={thread} controller={controller} />
    </article>
  );
}

type EditorProps = { text: string; onSend: (text: string) => void; onClose: () => void };

function Editor({ text: before, onSend, onClose }: EditorProps): ReactNode {
  const area = useRef<HTMLTextAreaElement>(null);
  const touch = useMedia(TOUCH);
  const [text, setText] = useState(before);
  const tooLong = codePoints(text) > MAX_LENGTH;
  const sendable = text.trim() !== "" && !tooLong;

  useEffect(() => {
    const element = area.current;
    element?.focus();
    element?.setSelectionRange(element.value.length, element.value.length);
  }, []);

  // biome-ignore lint/correctness/useExhaustiveDependencies: the height follows the text
  useEffect(() => {
    const element = area.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight + 2}px`;
  }, [text]);

  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>): void => {
    if (event.nativeEvent.isComposing || event.keyCode === 229) return;
    if (event.key === "Escape") {
      // Not also the Escape that stops an answer.
      event.preventDefault();
      onClose();
    } else if (event.key === "Enter" && !event.shiftKey && !touch) {
      event.preventDefault();
      if (sendable) onSend(text);
    }
  };

  return (
    <form
      className="editor"
      onSubmit={(event) => {
        event.preventDefault();
        if (sendable) onSend(text);
      }}
    >
      <textarea
        ref={area}
        dir="auto"
        rows={1}
        value={text}
        aria-label="Edited message"
        aria-invalid={tooLong || undefined}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={onKeyDown}
      />
      {tooLong && <p className="field-error">Shorten it to {MAX_LENGTH.toLocaleString("en")} characters.</p>}
      <div className="editor-actions">
        <button type="button" className="quiet small" onClick={onClose}>
          Cancel
        </button>
        <button type="submit" className="primary small" disabled={!sendable}>
          Send again
        </button>
      </div>
    </form>
  );
}
