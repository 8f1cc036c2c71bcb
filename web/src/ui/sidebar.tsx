// The list of conversations, and whose they are. On narrow screens a drawer.
import { type ReactNode, useEffect, useRef, useState } from "react";
import type { User } from "../api/types";
import type { ChatController } from "../chat/controller";
import { type ChatState, NEW_THREAD } from "../chat/state";
import { activeAnswer } from "../chat/thread";
import { titleOf } from "../chat/title";
import { Confirm } from "./confirm";
import { ConversationItem } from "./conversation-item";
import { CloseIcon, Mark, PlusIcon, SignOutIcon } from "./icons";
import { Notice } from "./notice";
import { go } from "./route";
import { SearchField, SearchResults } from "./search-field";
import { ThemeButton } from "./theme-button";
import { TokensToday } from "./tokens-today";

type Props = {
  controller: ChatController;
  list: ChatState["list"];
  search: ChatState["search"];
  budgets: ChatState["budgets"];
  threads: ChatState["threads"];
  route: string;
  user: User;
  drawer: boolean;
  open: boolean;
  onClose: () => void;
  onSignOut: () => void;
  /** A conversation was chosen: the person wants to write. */
  onOpened: () => void;
};

export function Sidebar({
  controller,
  list,
  search,
  budgets,
  threads,
  route,
  user,
  drawer,
  open,
  onClose,
  onSignOut,
  onOpened,
}: Props): ReactNode {
  const [deleting, setDeleting] = useState<string | null>(null);
  const first = useRef<HTMLButtonElement>(null);
  const wasOpen = useRef(open);

  useEffect(() => {
    if (drawer && open && !wasOpen.current) first.current?.focus();
    wasOpen.current = open;
  }, [drawer, open]);

  useEffect(() => {
    if (deleting === null) return;
    return () => {
      // What had the focus before the question may be gone with the conversation.
      if (document.activeElement === document.body) first.current?.focus();
    };
  }, [deleting]);

  const startNew = (): void => {
    if (route === NEW_THREAD) controller.startNew();
    else go(NEW_THREAD);
    onOpened();
  };

  const nameOf = (id: string): string =>
    titleOf(
      list.items.find((item) => item.id === id),
      threads[id],
    );

  return (
    <>
      {drawer && open && <div className="backdrop" onClick={onClose} aria-hidden="true" />}
      <aside className={open ? "sidebar open" : "sidebar"} inert={!open} aria-label="Conversations and account">
        <div className="sidebar-top">
          <span className="brand">
            <Mark size={26} /> Parley
          </span>
          {drawer && (
            <button type="button" className="icon-button" onClick={onClose} aria-label="Close">
              <CloseIcon />
            </button>
          )}
        </div>
        <button ref={first} type="button" className="new" onClick={startNew}>
          <PlusIcon /> New conversation
        </button>
        <SearchField controller={controller} words={search?.words ?? ""} />
        <nav aria-label="Conversations">
          {search ? (
            <SearchResults found={search} nameOf={nameOf} route={route} controller={controller} onOpened={onOpened} />
          ) : (
            <>
              <ul>
                {list.items.map((conversation) => (
                  <ConversationItem
                    key={conversation.id}
                    conversation={conversation}
                    title={nameOf(conversation.id)}
                    current={conversation.id === route}
                    writing={activeAnswer(threads[conversation.id]) !== undefined}
                    onRename={(title) => controller.rename(conversation, title)}
                    onDelete={() => setDeleting(conversation.id)}
                    onOpen={onOpened}
                  />
                ))}
              </ul>
              {list.status === "ready" && list.items.length === 0 && (
                <p className="muted empty">Your conversations will be listed here.</p>
              )}
              {list.status === "loading" && list.items.length === 0 && <p className="muted empty">Loading…</p>}
              {list.problem && <Notice problem={list.problem} onRetry={() => controller.loadConversations()} />}
              {list.nextToken !== "" && <More controller={controller} loading={list.status === "loading"} />}
            </>
          )}
        </nav>
        <TokensToday budgets={budgets} />
        <div className="account">
          <span className="email" title={user.email}>
            {user.email}
          </span>
          <ThemeButton />
          <button type="button" className="icon-button" onClick={onSignOut} aria-label="Sign out" title="Sign out">
            <SignOutIcon />
          </button>
        </div>
      </aside>
      {deleting !== null && (
        <Confirm
          title="Delete this conversation?"
          action="Delete"
          onClose={() => setDeleting(null)}
          onConfirm={async () => {
            await controller.remove(deleting);
            if (route === deleting) go(NEW_THREAD);
          }}
        >
          “<bdi>{nameOf(deleting)}</bdi>” and everything in it will be gone for good.
        </Confirm>
      )}
    </>
  );
}

/** Loads more when it comes into view; a button for who does not scroll. */
function More({ controller, loading }: { controller: ChatController; loading: boolean }): ReactNode {
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    const element = button.current;
    if (!element) return;
    const observer = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) controller.moreConversations();
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [controller]);
  return (
    <button
      ref={button}
      type="button"
      className="quiet wide"
      onClick={() => controller.moreConversations()}
      disabled={loading}
    >
      {loading ? "Loading…" : "Show more"}
    </button>
  );
}
