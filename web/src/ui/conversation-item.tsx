// One conversation in the list: open it, rename it in place, delete it.
import { type KeyboardEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { asProblem, explain } from "../api/problem";
import type { Conversation } from "../api/types";
import { PencilIcon, TrashIcon } from "./icons";
import { pathOf } from "./route";

const MAX_TITLE = 200;

type Props = {
  conversation: Conversation;
  title: string;
  current: boolean;
  /** An answer is being written in it. */
  writing: boolean;
  onRename: (title: string) => Promise<void>;
  onDelete: () => void;
  onOpen: () => void;
};

export function ConversationItem({
  conversation,
  title,
  current,
  writing,
  onRename,
  onDelete,
  onOpen,
}: Props): ReactNode {
  const [editing, setEditing] = useState(false);
  const [failure, setFailure] = useState("");
  const link = useRef<HTMLAnchorElement>(null);
  useEffect(() => {
    if (current) link.current?.scrollIntoView({ block: "nearest" });
  }, [current]);
  const finish = async (name: string | null): Promise<void> => {
    setEditing(false);
    setFailure("");
    // After the field is gone, where it was opened from has the focus again.
    requestAnimationFrame(() => link.current?.focus());
    if (name === null || name === "" || name === conversation.title) return;
    try {
      await onRename(name);
    } catch (error) {
      setFailure(`Not renamed. ${explain(asProblem(error)).text}`);
    }
  };
  return (
    <li className={current ? "conversation current" : "conversation"}>
      {editing ? (
        <TitleField title={title} onFinish={finish} />
      ) : (
        <>
          <a
            ref={link}
            dir="auto"
            href={pathOf(conversation.id)}
            aria-current={current ? "page" : undefined}
            onClick={onOpen}
            title={title}
          >
            {title}
          </a>
          {writing && <span className="writing" role="img" aria-label="An answer is being written" />}
          <span className="item-actions">
            <button
              type="button"
              className="icon-button"
              aria-label={`Rename ${title}`}
              title="Rename"
              onClick={() => setEditing(true)}
            >
              <PencilIcon />
            </button>
            <button
              type="button"
              className="icon-button"
              aria-label={`Delete ${title}`}
              title="Delete"
              onClick={onDelete}
            >
              <TrashIcon />
            </button>
          </span>
        </>
      )}
      {failure && (
        <p className="field-error" role="alert">
          {failure}
        </p>
      )}
    </li>
  );
}

function TitleField({ title, onFinish }: { title: string; onFinish: (name: string | null) => void }): ReactNode {
  const field = useRef<HTMLInputElement>(null);
  const finished = useRef(false);
  useEffect(() => {
    field.current?.focus();
    field.current?.select();
  }, []);
  const finish = (name: string | null): void => {
    // Enter takes the field away, which also ends its focus: once is enough.
    if (finished.current) return;
    finished.current = true;
    onFinish(name);
  };
  const onKeyDown = (event: KeyboardEvent<HTMLInputElement>): void => {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter") finish(event.currentTarget.value.trim());
    else if (event.key === "Escape") {
      // Not also the Escape that stops the answer.
      event.preventDefault();
      finish(null);
    }
  };
  return (
    <input
      ref={field}
      dir="auto"
      className="title-field"
      defaultValue={title}
      maxLength={MAX_TITLE}
      aria-label="Title"
      onKeyDown={onKeyDown}
      onBlur={(event) => finish(event.currentTarget.value.trim())}
    />
  );
}
