// One message of the conversation.
import { memo, type ReactNode } from "react";
import { Answer } from "./answer";
import { Asked } from "./asked";
import type { MessageProps } from "./message-props";

export const MessageView = memo(function MessageView(props: MessageProps): ReactNode {
  return props.message.role === "user" ? <Asked {...props} /> : <Answer {...props} />;
});
