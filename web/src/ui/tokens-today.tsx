// One's own tokens of today: how many are used, of how many, and when there are new ones.
import type { ReactNode } from "react";
import type { Budget } from "../api/types";
import { ownToday, shareOf } from "../chat/budgets";

export function TokensToday({ budgets }: { budgets: Budget[] }): ReactNode {
  const today = ownToday(budgets, Date.now());
  if (!today) return null;
  const share = shareOf(today.budget);
  return (
    <section className="tokens-today" aria-label="Usage">
      <p>{today.used}</p>
      {today.budget.limit !== null && (
        <>
          {/* The words beside it say the same. */}
          <svg
            className={share < 1 ? "gauge" : "gauge full"}
            viewBox="0 0 100 1"
            preserveAspectRatio="none"
            aria-hidden="true"
          >
            <rect width="100" height="1" />
            <rect className="used" width={100 * share} height="1" />
          </svg>
          <p>{today.resets}</p>
        </>
      )}
    </section>
  );
}
