import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Budget } from "../api/types";
import { Budgets, nearlySpent, ownToday, shareOf } from "./budgets";
import { ChatStore } from "./store";

const NOW = new Date(2026, 10, 21, 14, 0).getTime();
const TOMORROW = new Date(2026, 10, 22, 1, 0).toISOString();

const own = (current: number, limit: number | null): Budget => ({ scope: "user", current, limit, resets_at: TOMORROW });
const organizations = (current: number, limit: number | null): Budget => ({
  ...own(current, limit),
  scope: "organization",
});

beforeEach(() => {
  vi.useFakeTimers({ now: NOW });
});
afterEach(() => {
  vi.useRealTimers();
});

test("one's own tokens are told with the limit and when there are new ones", () => {
  const today = ownToday([organizations(7, 9), own(12_340, 50_000)], NOW);
  expect(today).toMatchObject({ used: "12,340 of 50,000 tokens today", resets: "New ones tomorrow at 01:00" });
});

test("without a limit there is nothing to wait for", () => {
  expect(ownToday([own(12_340, null)], NOW)).toMatchObject({ used: "12,340 tokens today", resets: "" });
  expect(nearlySpent([own(12_340, null)], NOW)).toBe("");
});

test("of none allowed all is used, and never more than all", () => {
  expect([shareOf(own(0, 0)), shareOf(own(70, 50)), shareOf(own(25, 50))]).toEqual([1, 1, 0.5]);
});

test("a budget is mentioned from four fifths on", () => {
  expect(nearlySpent([own(39_999, 50_000)], NOW)).toBe("");
  expect(nearlySpent([own(40_000, 50_000)], NOW)).toBe(
    "80 % of your 50,000 tokens of today are used. There are new ones tomorrow at 01:00.",
  );
});

test("it is the budget that is used up first that is mentioned", () => {
  expect(nearlySpent([own(45, 50), organizations(99, 100)], NOW)).toContain("99 % of your organization's 100 tokens");
});

test("a budget that is used up says so", () => {
  expect(nearlySpent([own(50_100, 50_000)], NOW)).toMatch(/^Your 50,000 tokens of today are used up\./);
});

class Server {
  asked = 0;
  budgets = async (): Promise<Budget[]> => {
    this.asked += 1;
    return [own(this.asked, 50)];
  };
}

test("budgets are asked for when an answer has ended, once its tokens are settled", async () => {
  const server = new Server();
  const store = new ChatStore();
  const budgets = new Budgets(server, store);
  budgets.used();
  expect(server.asked).toBe(0);
  await vi.advanceTimersByTimeAsync(1000);
  expect(store.get().budgets).toEqual([own(1, 50)]);
});

test("they are asked for again when the day ends, and no more once the page is left", async () => {
  const server = new Server();
  const budgets = new Budgets(server, new ChatStore());
  await budgets.ask();
  await vi.advanceTimersByTimeAsync(11 * 3_600_000 + 2000);
  expect(server.asked).toBeGreaterThan(1);
  budgets.dispose();
  const before = server.asked;
  await vi.advanceTimersByTimeAsync(86_400_000);
  expect(server.asked).toBe(before);
});

test("a server that does not answer takes nothing away", async () => {
  const store = new ChatStore();
  store.dispatch({ type: "budgets_told", budgets: [own(3, 50)] });
  await new Budgets({ budgets: () => Promise.reject(new Error("away")) }, store).ask();
  expect(store.get().budgets).toEqual([own(3, 50)]);
});
