// What a person asks for.
import type { Ask } from "../api/client";

/** One wish. Sending it again under the same `clientMessageId` is the same run. */
export type Turn = { clientMessageId: string } & (
  | { kind: "new"; text: string }
  /** `target` is the user's message that this one stands in for. */
  | { kind: "edit"; text: string; target: string }
  /** `target` is the answer that is given anew or gone on with. */
  | { kind: "regenerate" | "continue"; target: string }
);

/** A turn as the server is asked for it. */
export function asked(turn: Turn): Ask {
  switch (turn.kind) {
    case "new":
      return { message: turn.text };
    case "edit":
      return { message: turn.text, editMessageId: turn.target };
    case "regenerate":
      return { regenerateMessageId: turn.target };
    case "continue":
      return { continueMessageId: turn.target };
  }
}
