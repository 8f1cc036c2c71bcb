// One message of the conversation.
import { memo, type ReactNode } from "react";
import type { ChatController } from "../chat/controller";
import type { Message } from "../chat/message";
import { Answer } from "./answer";
import { Asked } from "./asked";

export type MessageProps = {
  message: Message;
  /** An answer is being written in this conversation: its branches stay as they are until it has ended. */
  busy: boolean;
  thread: string;
  controller: ChatController;
};

export const MessageView = memo(function MessageView(props: MessageProps): ReactNode {
  return props.message.role === "user" ? <Asked {...props} /> : <Answer {...props} />;
});
