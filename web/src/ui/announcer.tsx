// Tells screen readers what has happened, once and when it is whole.
import type { ReactNode } from "react";
import type { ChatState } from "../chat/state";

export function Announcer({ announcement }: { announcement: ChatState["announcement"] }): ReactNode {
  return (
    <div className="visually-hidden" role="status" aria-live="polite">
      {/* A new element is read even when it says the same as the last one. */}
      <p key={announcement.count}>{announcement.text}</p>
    </div>
  );
}
