// What each part of a message is drawn from.
import type { ChatController } from "../chat/controller";
import type { Message } from "../chat/message";

export type MessageProps = {
  message: Message;
  /** An answer is being written in this conversation: its branches stay as they are until it has ended. */
  busy: boolean;
  thread: string;
  controller: ChatController;
};
