import { beforeEach, expect, test } from "vitest";
import { ProblemError, problemOf } from "./problem";
import { SessionStore } from "./session";
import type { SessionReply } from "./types";

/** What all tabs of a browser share. */
class Browser {
  now = 1_000_000;
  refreshes: string[] = [];
  answer: (refreshToken: string) => Promise<SessionReply> = async (token) => reply(`${token}+`);
  private items = new Map<string, string>();
  private queue: Promise<unknown> = Promise.resolve();

  tab(): SessionStore {
    return new SessionStore({
      storage: {
        getItem: (key: string) => this.items.get(key) ?? null,
        setItem: (key: string, value: string) => void this.items.set(key, value),
        removeItem: (key: string) => void this.items.delete(key),
      } as Storage,
      now: () => this.now,
      exclusively: <T>(_name: string, work: () => Promise<T>): Promise<T> => {
        const result = this.queue.then(work);
        this.queue = result.catch(() => undefined);
        return result;
      },
      refresh: (token) => {
        this.refreshes.push(token);
        return this.answer(token);
      },
    });
  }
}

function reply(refreshToken: string): SessionReply {
  const user = { id: "u1", email: "a@example.com" };
  return { access_token: `access of ${refreshToken}`, refresh_token: refreshToken, expires_in: 900, user };
}

let browser: Browser;
beforeEach(() => {
  browser = new Browser();
});

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return error instanceof ProblemError ? error.problem.code : String(error);
  }
  return "none";
}

test("a session is there again after a reload and in other tabs", () => {
  browser.tab().start(reply("r1"));
  expect(browser.tab().get()?.user.email).toBe("a@example.com");
});

test("an access token is used until shortly before it expires", async () => {
  const tab = browser.tab();
  tab.start(reply("r1"));
  browser.now += 860_000;
  expect(await tab.accessToken()).toBe("access of r1");
  browser.now += 20_000;
  expect(await tab.accessToken()).toBe("access of r1+");
});

test("requests at the same time share one refresh", async () => {
  const tab = browser.tab();
  tab.start(reply("r1"));
  await Promise.all([tab.accessToken("access of r1"), tab.accessToken("access of r1")]);
  expect(browser.refreshes).toEqual(["r1"]);
});

test("two tabs that race refresh once and both stay signed in", async () => {
  const [one, two] = [browser.tab(), browser.tab()];
  one.start(reply("r1"));
  const tokens = await Promise.all([one.accessToken("access of r1"), two.accessToken("access of r1")]);
  expect(tokens).toEqual(["access of r1+", "access of r1+"]);
  expect(browser.refreshes).toEqual(["r1"]);
});

test("a refused refresh ends the session and says why", async () => {
  const tab = browser.tab();
  tab.start(reply("r1"));
  browser.answer = async () => {
    throw new ProblemError(problemOf("invalid_refresh_token", { status: 400 }));
  };
  expect(await codeOf(tab.accessToken("access of r1"))).toBe("signed_out");
  expect(tab.get()).toBeNull();
  expect(tab.endedBy?.code).toBe("signed_out");
});

test("a refused refresh does not end a session that another tab has renewed meanwhile", async () => {
  const [one, two] = [browser.tab(), browser.tab()];
  one.start(reply("r1"));
  browser.answer = async () => {
    // The other tab has no locks and was quicker.
    two.start(reply("r2"));
    throw new ProblemError(problemOf("invalid_refresh_token", { status: 400 }));
  };
  expect(await one.accessToken("access of r1")).toBe("access of r2");
  expect(one.get()?.refreshToken).toBe("r2");
});

test("a server that cannot be reached does not end the session", async () => {
  const tab = browser.tab();
  tab.start(reply("r1"));
  browser.answer = async () => {
    throw new ProblemError(problemOf("network"));
  };
  expect(await codeOf(tab.accessToken("access of r1"))).toBe("network");
  expect(tab.get()?.refreshToken).toBe("r1");
});

test("a sign-out during a refresh is not undone by it", async () => {
  const tab = browser.tab();
  tab.start(reply("r1"));
  browser.answer = async () => {
    tab.end(null);
    return reply("r2");
  };
  expect(await codeOf(tab.accessToken("access of r1"))).toBe("signed_out");
  expect(tab.get()).toBeNull();
});

test("a sign-out in another tab is seen here", () => {
  const [one, two] = [browser.tab(), browser.tab()];
  one.start(reply("r1"));
  let told = 0;
  two.subscribe(() => told++);
  one.end(null);
  two.changedElsewhere();
  expect(told).toBe(1);
  expect(two.get()).toBeNull();
});
