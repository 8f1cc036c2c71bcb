import { expect, test, vi } from "vitest";
import type { Conversation } from "../api/types";
import { ChatStore } from "./store";
import { Titles } from "./titles";

const named = (title: string): Conversation => ({ id: "c1", title, created_at: "", updated_at: "" });

/** Returns what the conversation is called after everything that was asked for, and how often it was asked. */
async function titleAfter(known: string, ...answers: (string | Error)[]): Promise<[string | undefined, number]> {
  vi.useFakeTimers();
  const store = new ChatStore();
  store.dispatch({ type: "conversation_changed", conversation: named(known) });
  let asked = 0;
  const api = {
    conversation: async () => {
      asked++;
      const answer = answers.shift() ?? "";
      if (answer instanceof Error) throw answer;
      return named(answer);
    },
    renameConversation: async (_id: string, title: string) => named(title),
  };
  new Titles(api, store).expect("c1", "What is the tide?");
  await vi.runAllTimersAsync();
  vi.useRealTimers();
  return [store.get().list.items[0]?.title, asked];
}

test("a title that is made in the background is shown as soon as it is there", async () => {
  expect(await titleAfter("", "", new Error("away"), "Tides")).toEqual(["Tides", 3]);
});

test("a conversation that has a title is not asked for", async () => {
  expect(await titleAfter("Mine")).toEqual(["Mine", 0]);
});

test("a conversation that never gets one is called by its first words", async () => {
  expect(await titleAfter("")).toEqual(["What is the tide?", 4]);
});
