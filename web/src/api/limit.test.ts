import { expect, test } from "vitest";
import { clock, explainLimit, type Limit, limitOf } from "./limit";
import { explain, problemFromResponse, problemOf } from "./problem";

const NOW = new Date(2026, 10, 21, 14, 0).getTime();
const LATER = new Date(2026, 10, 21, 14, 5).getTime();
const TOMORROW = new Date(2026, 10, 22, 1, 0).getTime();

const limit = (type: string, current: number, most: number, resetsAt = TOMORROW): Limit => ({
  ...{ type, current, limit: most, resetsAt },
});

test("a refusal by a limit is read with whose it is and when there is more", async () => {
  const told = { limit_type: "requests_minute", current: 10, limit: 10, resets_at: "2026-11-21T14:05:00Z" };
  const body = { code: "rate_limit_exceeded", retry_after: 30, ...told };
  const problem = await problemFromResponse(new Response(JSON.stringify(body), { status: 429 }), NOW);
  expect(problem.limit).toEqual(limit("requests_minute", 10, 10, Date.parse("2026-11-21T14:05:00Z")));
  expect(problem.retryAt).toBe(NOW + 30_000);
});

test.each([
  {},
  { limit_type: "x", current: "1", limit: 2, resets_at: "2026-11-21T14:05:00Z" },
  { resets_at: "soon" },
])("what tells of no limit, or not in full, is none: %o", (told) => expect(limitOf(told)).toBeNull());

test.each([
  ["requests_minute", "You can send up to 10 messages a minute. The next one can be sent at 14:05."],
  ["requests_hour", "You can send up to 10 messages an hour. The next one can be sent at 14:05."],
  ["requests_day", "You can send up to 10 messages a day. The next one can be sent at 14:05."],
])("%s says how many, and when the next one", (type, words) => {
  expect(explainLimit(limit(type, 10, 10, LATER), NOW)).toBe(words);
});

test.each([
  ["user_tokens_day", "The 50,000 tokens for you today are used up. There are new ones tomorrow at 01:00."],
  [
    "organization_tokens_day",
    "The 50,000 tokens for your organization today are used up. There are new ones tomorrow at 01:00.",
  ],
  ["global_tokens_day", "The 50,000 tokens for this server today are used up. There are new ones tomorrow at 01:00."],
])("%s says whose tokens are used up", (type, words) => {
  expect(explainLimit(limit(type, 50_001, 50_000), NOW)).toBe(words);
});

test("a budget that is not used up, but too small for what was asked, says what is left", () => {
  expect(explainLimit(limit("user_tokens_day", 49_000, 50_000), NOW)).toContain("1,000 tokens of 50,000");
});

test("who has no tokens at all is not told to wait", () => {
  expect(explainLimit(limit("user_tokens_day", 0, 0), NOW)).not.toContain("new ones");
});

test("once there is more, it only says that it was so", () => {
  expect(explainLimit(limit("user_tokens_day", 5, 5, NOW), NOW)).toBe(
    "The tokens for you were used up that day. Try again.",
  );
});

test("a kind of limit that this page does not know has the words of its reason", () => {
  expect(explainLimit(limit("pictures_week", 1, 1), NOW)).toBeNull();
  const problem = problemOf("rate_limit_exceeded", { status: 429, limit: limit("pictures_week", 1, 1) });
  expect(explain(problem).text).toContain("Wait a little");
});

test.each([
  [LATER, "at 14:05"],
  [LATER - 59_000, "at 14:05"],
  [TOMORROW, "tomorrow at 01:00"],
  [new Date(2026, 10, 24, 9, 30).getTime(), "on 24 November at 09:30"],
])("a moment is named by the clock on the wall", (at, words) => expect(clock(at, NOW)).toBe(words));
