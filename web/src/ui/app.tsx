// The whole page: the sign-in form, or the conversations of who is signed in.
import { type ReactNode, useSyncExternalStore } from "react";
import type { Api } from "../api/client";
import type { SessionStore } from "../api/session";
import { ChatPage } from "./chat-page";
import { SignIn } from "./sign-in";

export function App({ sessions, api }: { sessions: SessionStore; api: Api }): ReactNode {
  const session = useSyncExternalStore(sessions.subscribe, sessions.get);
  if (!session) return <SignIn sessions={sessions} />;
  // Another user is another page: nothing of the last one may be seen.
  return <ChatPage key={session.user.id} api={api} user={session.user} />;
}
