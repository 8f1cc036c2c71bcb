// A turn that did not get through, and what can be done about it.
import type { ReactNode } from "react";
import type { MessageProps } from "./message-props";
import { Notice } from "./notice";

export function Unsent({ message, thread, controller }: Omit<MessageProps, "busy">): ReactNode {
  if (message.state !== "unsent" || !message.problem) return null;
  const conflict = message.problem.code === "concurrent_request";
  return (
    <Notice problem={message.problem} onRetry={() => controller.resend(thread, message)} calm={conflict} alert>
      {conflict && (
        <>
          <button type="button" className="small" onClick={() => controller.resend(thread, message, "enqueue")}>
            Wait for it
          </button>
          <button type="button" className="small" onClick={() => controller.resend(thread, message, "interrupt")}>
            Stop it and send this
          </button>
        </>
      )}
      <button type="button" className="quiet small" onClick={() => controller.discard(thread, message)}>
        Discard
      </button>
    </Notice>
  );
}
