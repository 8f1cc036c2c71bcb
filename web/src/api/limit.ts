// A limit that refused something: whose, how much of it is used, and when there is more.

/** `type` is what is counted: `requests_minute`, `user_tokens_day`, … */
export type Limit = {
  type: string;
  current: number;
  limit: number;
  /** Milliseconds since the epoch. */
  resetsAt: number;
};

/** Reads the limit out of a problem document or an error event; null where it tells of none. */
export function limitOf(told: Record<string, unknown>): Limit | null {
  const { limit_type: type, current, limit } = told;
  const resetsAt = typeof told.resets_at === "string" ? Date.parse(told.resets_at) : Number.NaN;
  if (typeof type !== "string" || typeof current !== "number" || typeof limit !== "number") return null;
  return Number.isFinite(resetsAt) ? { type, current, limit, resetsAt } : null;
}

const SPANS: Record<string, string> = { minute: "a minute", hour: "an hour", day: "a day" };
const OWNERS: Record<string, string> = { user: "you", organization: "your organization", global: "this server" };

/** Says which limit it is and when there is more; null for a kind this page does not know. */
export function explainLimit({ type, current, limit, resetsAt }: Limit, now: number): string | null {
  const [first = "", second = "", third = ""] = type.split("_");
  const span = first === "requests" ? SPANS[second] : undefined;
  const owner = second === "tokens" && third === "day" ? OWNERS[first] : undefined;
  if (!span && !owner) return null;
  if (owner && limit === 0) return `There are no tokens for ${owner} here. Ask whoever runs this server.`;
  if (span) {
    const most = `You can send up to ${count(limit, "message")} ${span}.`;
    return resetsAt > now ? `${most} The next one can be sent ${clock(resetsAt, now)}.` : `${most} Try again.`;
  }
  if (resetsAt <= now) return `The tokens for ${owner} were used up that day. Try again.`;
  const left = Math.max(0, limit - current);
  const state =
    left === 0
      ? `The ${count(limit, "token")} for ${owner} today are used up.`
      : `This needs more than is left for ${owner} today: ${count(left, "token")} of ${limit.toLocaleString("en")}.`;
  return `${state} There are new ones ${clock(resetsAt, now)}.`;
}

function count(number: number, what: string): string {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
}

/** Names a moment of the next days by the clock on the wall, never one before it: `at 14:05`, `tomorrow at 01:00`. */
export function clock(moment: number, now: number): string {
  const at = Math.ceil(moment / 60_000) * 60_000;
  const date = new Date(at);
  const time = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const days = Math.round((midnight(at) - midnight(now)) / 86_400_000);
  if (days <= 0) return `at ${time}`;
  if (days === 1) return `tomorrow at ${time}`;
  return `on ${date.toLocaleDateString("en-GB", { day: "numeric", month: "long" })} at ${time}`;
}

function midnight(at: number): number {
  return new Date(at).setHours(0, 0, 0, 0);
}
