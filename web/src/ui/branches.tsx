// Steps through the versions of a message.
import { type ReactNode, useState } from "react";
import { asProblem, explain } from "../api/problem";
import { BackIcon, ForthIcon } from "./icons";
import type { MessageProps } from "./message-props";

export function Branches({ message, thread, controller }: Omit<MessageProps, "busy">): ReactNode {
  const [turning, setTurning] = useState(false);
  const [failure, setFailure] = useState("");
  const { siblings, id } = message;
  const index = siblings.indexOf(id ?? "");
  if (index < 0 || siblings.length < 2) return null;

  const go = async (to: string | undefined, way: "back" | "forth"): Promise<void> => {
    if (to === undefined || turning) return;
    setTurning(true);
    setFailure("");
    try {
      await controller.selectBranch(thread, to);
      // The other version has its own buttons: the focus goes where it was.
      requestAnimationFrame(() => {
        const group = document.getElementById(groupOf(to));
        const buttons = [...(group?.querySelectorAll<HTMLButtonElement>("button") ?? [])];
        const same = buttons[way === "back" ? 0 : 1];
        (same?.disabled ? buttons.find((button) => !button.disabled) : same)?.focus();
      });
    } catch (error) {
      setFailure(explain(asProblem(error)).text);
    } finally {
      setTurning(false);
    }
  };

  return (
    // biome-ignore lint/a11y/useSemanticElements: these are no fields of a form
    <div className="branches" id={groupOf(id ?? "")} role="group" aria-label="Versions">
      <button
        type="button"
        className="icon-button small"
        aria-label="Previous version"
        title="Previous version"
        disabled={index === 0}
        onClick={() => go(siblings[index - 1], "back")}
      >
        <BackIcon />
      </button>
      <span>
        <span className="visually-hidden">Version </span>
        {index + 1}
        <span aria-hidden="true">/</span>
        <span className="visually-hidden"> of </span>
        {siblings.length}
      </span>
      <button
        type="button"
        className="icon-button small"
        aria-label="Next version"
        title="Next version"
        disabled={index === siblings.length - 1}
        onClick={() => go(siblings[index + 1], "forth")}
      >
        <ForthIcon />
      </button>
      {failure && (
        <span className="field-error" role="alert">
          {failure}
        </span>
      )}
    </div>
  );
}

function groupOf(messageId: string): string {
  return `versions-${messageId}`;
}
