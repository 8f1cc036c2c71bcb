// The tokens of today: asked for when the page opens and whenever some may have been used, and what is said about them.
import type { Api } from "../api/client";
import { clock } from "../api/limit";
import type { Budget } from "../api/types";
import type { ChatStore } from "./store";

/** Milliseconds after the end of an answer: its tokens are settled by then. */
const SETTLED_MS = 800;
/** From this share of a limit on it is mentioned where one writes. */
const NEARLY = 0.8;
/** A timer cannot wait longer than this; asking once more in between does no harm. */
const LONGEST_MS = 6 * 3_600_000;

export class Budgets {
  private readonly api: Pick<Api, "budgets">;
  private readonly store: ChatStore;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private disposed = false;

  constructor(api: Pick<Api, "budgets">, store: ChatStore) {
    this.api = api;
    this.store = store;
  }

  dispose(): void {
    this.disposed = true;
    clearTimeout(this.timer);
  }

  /** To be called when an answer has ended. */
  used(): void {
    this.askIn(SETTLED_MS);
  }

  async ask(): Promise<void> {
    clearTimeout(this.timer);
    try {
      const budgets = await this.api.budgets();
      if (this.disposed) return;
      this.store.dispatch({ type: "budgets_told", budgets });
      const next = Math.min(...budgets.map(({ resets_at }) => Date.parse(resets_at) - Date.now()));
      if (next > 0 && Number.isFinite(next)) this.askIn(Math.min(next + SETTLED_MS, LONGEST_MS));
    } catch {
      // What was known is shown; the next answer asks again.
    }
  }

  private askIn(delayMs: number): void {
    if (this.disposed) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), delayMs);
  }
}

/** How much of a budget is used, from 0 to 1; of none allowed all is. */
export function shareOf({ current, limit }: Budget): number {
  if (limit === null) return 0;
  return limit === 0 ? 1 : Math.min(1, current / limit);
}

/** One's own tokens of today in a few words; null where they are not known. */
export function ownToday(budgets: Budget[], now: number): { budget: Budget; used: string; resets: string } | null {
  const budget = budgets.find(({ scope }) => scope === "user");
  if (!budget) return null;
  const of = budget.limit === null ? "" : ` of ${budget.limit.toLocaleString("en")}`;
  const used = `${budget.current.toLocaleString("en")}${of} tokens today`;
  return { budget, used, resets: budget.limit === null ? "" : `New ones ${clock(Date.parse(budget.resets_at), now)}` };
}

/** A sentence about the budget that will be used up first, if that is near; else an empty text. */
export function nearlySpent(budgets: Budget[], now: number): string {
  const tightest = [...budgets].sort((a, b) => shareOf(b) - shareOf(a))[0];
  if (!tightest || tightest.limit === null || shareOf(tightest) < NEARLY) return "";
  const whose = tightest.scope === "user" ? "your" : tightest.scope === "organization" ? "your organization's" : "all";
  if (tightest.limit === 0) return "There are no tokens for you here. Ask whoever runs this server.";
  const tokens = `${whose} ${tightest.limit.toLocaleString("en")} tokens of today`;
  const when = clock(Date.parse(tightest.resets_at), now);
  if (shareOf(tightest) === 1)
    return `${tokens[0]?.toUpperCase()}${tokens.slice(1)} are used up. There are new ones ${when}.`;
  return `${Math.floor(100 * shareOf(tightest))} % of ${tokens} are used. There are new ones ${when}.`;
}
