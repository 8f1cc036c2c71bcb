import { beforeEach, expect, test } from "vitest";
import { Drafts } from "./drafts";

/** As sessionStorage: entries are also properties. */
function memoryStorage(): Storage {
  const methods = {
    getItem(key: string) {
      return (this as unknown as Record<string, string>)[key] ?? null;
    },
    setItem(key: string, value: string) {
      (this as unknown as Record<string, string>)[key] = value;
    },
    removeItem(key: string) {
      delete (this as unknown as Record<string, string>)[key];
    },
  };
  return Object.create(methods) as Storage;
}

let storage: Storage;
beforeEach(() => {
  storage = memoryStorage();
});

test("what was typed is kept per conversation and per user", () => {
  new Drafts(storage, "u1").save("c1", "half a thought");
  expect(new Drafts(storage, "u1").read("c1")).toBe("half a thought");
  expect(new Drafts(storage, "u1").read("c2")).toBe("");
  expect(new Drafts(storage, "u2").read("c1")).toBe("");
});

test("a message that could not be sent is in the composer after a reload, before what was typed since", () => {
  const drafts = new Drafts(storage, "u1");
  drafts.saveUnsent("c1", "unsent");
  drafts.save("c1", "typed");
  expect(drafts.read("c1")).toBe("typed");
  expect(new Drafts(storage, "u1").read("c1")).toBe("unsent\n\ntyped");
});

test("a message that was sent after all does not come back", () => {
  const drafts = new Drafts(storage, "u1");
  drafts.saveUnsent("c1", "unsent");
  drafts.saveUnsent("c1", "");
  expect(new Drafts(storage, "u1").read("c1")).toBe("");
});

test("a sign-out forgets it all", () => {
  const drafts = new Drafts(storage, "u1");
  drafts.save("c1", "typed");
  drafts.saveUnsent("c2", "unsent");
  drafts.clear();
  expect(Object.keys(storage)).toEqual([]);
});
