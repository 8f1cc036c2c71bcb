// The conversations of a signed-in user: the list beside the open one.
import { type ReactNode, useEffect, useRef, useState, useSyncExternalStore } from "react";
import type { Api } from "../api/client";
import type { User } from "../api/types";
import { nearlySpent } from "../chat/budgets";
import { ChatController } from "../chat/controller";
import { Drafts } from "../chat/drafts";
import { NEW_THREAD } from "../chat/state";
import { ChatStore } from "../chat/store";
import { activeAnswer } from "../chat/thread";
import { titleOf } from "../chat/title";
import { Announcer } from "./announcer";
import { Composer } from "./composer";
import { MenuIcon } from "./icons";
import { NARROW, useMedia, useOnline } from "./media";
import { adoptRoute, go, useRoute } from "./route";
import { Sidebar } from "./sidebar";
import { ThreadView } from "./thread-view";

export function ChatPage({ api, user }: { api: Api; user: User }): ReactNode {
  const [drafts] = useState(() => new Drafts(window.sessionStorage, user.id));
  const [controller] = useState(() => new ChatController(api, new ChatStore(), drafts, adoptRoute));
  const state = useSyncExternalStore(controller.store.subscribe, controller.store.get);
  const route = useRoute();
  const narrow = useMedia(NARROW);
  const online = useOnline();
  const [drawer, setDrawer] = useState(false);
  const main = useRef<HTMLElement>(null);
  const composer = useRef<HTMLTextAreaElement>(null);
  const menu = useRef<HTMLButtonElement>(null);
  const thread = state.threads[route];
  const conversation = state.list.items.find((item) => item.id === route);
  // Until it is known which conversation this is.
  const named = conversation !== undefined || thread?.status === "ready";
  const title = route === NEW_THREAD ? "New conversation" : named ? titleOf(conversation, thread) : "Conversation";

  useEffect(() => {
    controller.loadConversations();
    return () => controller.dispose();
  }, [controller]);

  useEffect(() => {
    controller.show(document.hidden ? null : route);
    if (route === NEW_THREAD) controller.startNew();
    else controller.open(route);
    setDrawer(false);
  }, [controller, route]);

  useEffect(() => {
    // What happened elsewhere (another tab, another machine) while this tab was out of sight.
    const refresh = (): void => {
      controller.show(document.hidden ? null : route);
      if (document.hidden) return;
      controller.loadConversations();
      if (route !== NEW_THREAD) controller.open(route);
    };
    document.addEventListener("visibilitychange", refresh);
    return () => document.removeEventListener("visibilitychange", refresh);
  }, [controller, route]);

  useEffect(() => {
    document.title = `${title} · Parley`;
  }, [title]);

  useEffect(() => {
    const onKey = (event: KeyboardEvent): void => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      if (drawer) {
        setDrawer(false);
        menu.current?.focus();
      } else controller.stop(route);
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [controller, route, drawer]);

  const signOut = (): void => {
    controller.dispose();
    drafts.clear();
    // Whoever signs in next begins at the beginning.
    go(NEW_THREAD);
    api.signOut();
  };

  return (
    <div className="page">
      <button type="button" className="skip" onClick={() => main.current?.focus()}>
        Skip to the conversation
      </button>
      <Sidebar
        controller={controller}
        list={state.list}
        search={state.search}
        budgets={state.budgets}
        threads={state.threads}
        route={route}
        user={user}
        drawer={narrow}
        open={drawer || !narrow}
        onClose={() => {
          setDrawer(false);
          menu.current?.focus();
        }}
        onSignOut={signOut}
        onOpened={() => {
          setDrawer(false);
          composer.current?.focus();
        }}
      />
      <main ref={main} tabIndex={-1} inert={narrow && drawer} aria-label="Conversation">
        <header className="bar">
          {narrow && (
            <button
              ref={menu}
              type="button"
              className="icon-button"
              onClick={() => setDrawer(true)}
              aria-label="Conversations"
              aria-expanded={drawer}
            >
              <MenuIcon />
            </button>
          )}
          <h1 title={title} dir="auto">
            {title}
          </h1>
        </header>
        {!online && (
          <p className="banner" role="status">
            You are offline. What is being written goes on at the server and appears here when you are back.
          </p>
        )}
        <ThreadView
          key={thread?.viewKey ?? route}
          id={route}
          thread={thread}
          controller={controller}
          onSuggest={(text) => suggest(text)}
        />
        <Composer
          ref={composer}
          id={route}
          drafts={drafts}
          active={activeAnswer(thread)}
          disabled={thread?.status === "failed"}
          warning={nearlySpent(state.budgets, Date.now())}
          onSend={(text) => controller.send(route, text)}
          onStop={() => controller.stop(route)}
        />
      </main>
      <Announcer announcement={state.announcement} />
    </div>
  );

  function suggest(text: string): void {
    controller.send(route, text);
    composer.current?.focus();
  }
}
