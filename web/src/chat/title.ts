// What a conversation is called.
import type { Conversation } from "../api/types";
import type { Thread } from "./thread";

/** A conversation's name: its title, else the first words of its first message. */
export function titleOf(conversation: Conversation | undefined, thread: Thread | undefined): string {
  if (conversation?.title) return conversation.title;
  const first = thread?.messages.find((message) => message.role === "user");
  return first ? firstWords(first.text) : "New conversation";
}

/** The first words of a text on one line, at most 60 characters. */
export function firstWords(text: string): string {
  const line = text.trim().replace(/\s+/g, " ");
  const points = [...line.slice(0, 200)];
  if (points.length <= 60) return line.length <= 200 ? line : points.join("");
  const head = points.slice(0, 60).join("");
  const space = head.lastIndexOf(" ");
  return `${space > 30 ? head.slice(0, space) : head}…`;
}
