// The field above the list, and what its words have found.
import type { KeyboardEvent, ReactNode } from "react";
import type { ChatController } from "../chat/controller";
import type { ChatState } from "../chat/state";
import { CloseIcon, SearchIcon } from "./icons";
import { Notice } from "./notice";
import { pathOf } from "./route";

const MAX_WORDS = 200;

export function SearchField({ controller, words }: { controller: ChatController; words: string }): ReactNode {
  const onKeyDown = (event: KeyboardEvent<HTMLInputElement>): void => {
    if (event.key !== "Escape" || words === "") return;
    // Not also the Escape that stops the answer.
    event.preventDefault();
    controller.search.find("");
  };
  return (
    <search className="search">
      <SearchIcon />
      <input
        type="search"
        dir="auto"
        value={words}
        maxLength={MAX_WORDS}
        placeholder="Search"
        aria-label="Search conversations"
        autoComplete="off"
        spellCheck={false}
        onChange={(event) => controller.search.find(event.target.value)}
        onKeyDown={onKeyDown}
      />
      {words !== "" && (
        <button
          type="button"
          className="icon-button small"
          aria-label="Clear the search"
          onClick={() => controller.search.find("")}
        >
          <CloseIcon />
        </button>
      )}
    </search>
  );
}

type FoundProps = {
  found: NonNullable<ChatState["search"]>;
  nameOf: (id: string) => string;
  route: string;
  controller: ChatController;
  onOpened: () => void;
};

export function SearchResults({ found, nameOf, route, controller, onOpened }: FoundProps): ReactNode {
  const { items, status, words, problem, nextToken } = found;
  return (
    <>
      <ul aria-busy={status === "loading"}>
        {items.map(({ id, title, match }) => (
          <li key={id} className={id === route ? "found current" : "found"}>
            <a href={pathOf(id)} aria-current={id === route ? "page" : undefined} onClick={onOpened}>
              <span className="found-title" dir="auto">
                <Marked text={title || nameOf(id)} words={words} />
              </span>
              {match?.snippet && (
                <span className="snippet" dir="auto">
                  <Marked text={match.snippet} words={words} />
                </span>
              )}
            </a>
          </li>
        ))}
      </ul>
      {status === "loading" && items.length === 0 && <p className="muted empty">Searching…</p>}
      {status === "ready" && items.length === 0 && <p className="muted empty">Nothing found for “{words.trim()}”.</p>}
      {problem && <Notice problem={problem} onRetry={() => controller.search.find(words)} />}
      {nextToken !== "" && (
        <button type="button" className="quiet wide" onClick={() => controller.search.more()}>
          Show more
        </button>
      )}
    </>
  );
}

function Marked({ text, words }: { text: string; words: string }): ReactNode {
  const wanted = words.trim().split(/\s+/).filter(Boolean);
  if (wanted.length === 0) return text;
  const pattern = new RegExp(`(${wanted.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "giu");
  // Every other piece is one that matched.
  return text.split(pattern).map((piece, index) =>
    index % 2 === 1 ? (
      // biome-ignore lint/suspicious/noArrayIndexKey: the pieces of a text have no identity but their place
      <mark key={index}>{piece}</mark>
    ) : (
      piece
    ),
  );
}
