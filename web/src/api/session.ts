// Who is signed in: kept in localStorage, shared by all tabs, refreshed by one of them at a time.
import { type Problem, ProblemError, problemOf } from "./problem";
import type { SessionReply, User } from "./types";

export type Session = {
  accessToken: string;
  refreshToken: string;
  /** By this machine's clock, so that a wrong clock does not matter. Milliseconds since the epoch. */
  expiresAt: number;
  user: User;
};

const KEY = "parley.session";
const LOCK = "parley.session.refresh";
/** Refresh this long before the end, so that no request leaves with a token that dies on the way. */
const MARGIN_MS = 30_000;

type Deps = {
  storage: Storage;
  now: () => number;
  /** Runs `work` while no other tab does; only in-tab order where the browser has no locks (plain HTTP on a network address). */
  exclusively: <T>(name: string, work: () => Promise<T>) => Promise<T>;
  /** Exchanges a refresh token. Throws ProblemError. */
  refresh: (refreshToken: string) => Promise<SessionReply>;
};

export class SessionStore {
  /** Why the last session ended, for the sign-in form; null after a wanted sign-out. */
  endedBy: Problem | null = null;
  private readonly deps: Deps;
  private readonly listeners = new Set<() => void>();
  private raw: string | null;
  private parsed: Session | null;
  private refreshing: Promise<Session> | null = null;

  constructor(deps: Deps) {
    this.deps = deps;
    this.raw = null;
    this.parsed = null;
    this.reread();
  }

  /** The session, as all tabs see it now. The same object until it changes. */
  get = (): Session | null => {
    this.reread();
    return this.parsed;
  };

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** To be called when another tab has written to the storage. */
  changedElsewhere(): void {
    this.notify();
  }

  start(reply: SessionReply): Session {
    const session: Session = {
      accessToken: reply.access_token,
      refreshToken: reply.refresh_token,
      expiresAt: this.deps.now() + reply.expires_in * 1000,
      user: { id: reply.user.id, email: reply.user.email },
    };
    this.endedBy = null;
    this.deps.storage.setItem(KEY, JSON.stringify(session));
    this.notify();
    return session;
  }

  end(because: Problem | null): void {
    this.endedBy = because;
    this.deps.storage.removeItem(KEY);
    this.notify();
  }

  /**
   * Returns an access token that is good for the next moments, refreshing if need be.
   *
   * `refused` is one the server has just answered with 401: it is replaced even if the clock says it is good.
   * Throws ProblemError: "signed_out" when there is no session any more, "network" and others when refreshing failed for now.
   */
  async accessToken(refused?: string): Promise<string> {
    const session = this.get();
    if (!session) throw new ProblemError(problemOf("signed_out"));
    if (this.good(session, refused)) return session.accessToken;
    this.refreshing ??= this.refreshOnce(refused).finally(() => {
      this.refreshing = null;
    });
    return (await this.refreshing).accessToken;
  }

  private good(session: Session, refused: string | undefined): boolean {
    return session.accessToken !== refused && session.expiresAt - this.deps.now() > MARGIN_MS;
  }

  private refreshOnce(refused: string | undefined): Promise<Session> {
    return this.deps.exclusively(LOCK, async () => {
      // Another tab may have refreshed while this one waited for the lock.
      const session = this.get();
      if (!session) throw new ProblemError(problemOf("signed_out"));
      if (this.good(session, refused)) return session;
      let reply: SessionReply;
      try {
        reply = await this.deps.refresh(session.refreshToken);
      } catch (error) {
        if (!(error instanceof ProblemError) || !isFinal(error.problem)) throw error;
        const current = this.get();
        if (current && current.refreshToken !== session.refreshToken) return current;
        if (current) this.end(problemOf("signed_out"));
        throw new ProblemError(problemOf("signed_out"));
      }
      // A sign-out that happened meanwhile wins.
      if (this.get()?.refreshToken !== session.refreshToken) throw new ProblemError(problemOf("signed_out"));
      return this.start(reply);
    });
  }

  private reread(): void {
    const raw = this.deps.storage.getItem(KEY);
    if (raw === this.raw) return;
    this.raw = raw;
    this.parsed = parse(raw);
  }

  private notify(): void {
    this.reread();
    for (const listener of this.listeners) listener();
  }
}

/** Whether the server has said that this refresh token will never work again. */
function isFinal(problem: Problem): boolean {
  return problem.status === 400 || problem.status === 401 || problem.status === 403;
}

function parse(raw: string | null): Session | null {
  if (raw === null) return null;
  try {
    const value = JSON.parse(raw) as Session;
    const whole =
      typeof value.accessToken === "string" &&
      typeof value.refreshToken === "string" &&
      typeof value.expiresAt === "number" &&
      typeof value.user?.id === "string";
    return whole ? value : null;
  } catch {
    return null;
  }
}

export function exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
  return navigator.locks ? navigator.locks.request(name, work) : work();
}
