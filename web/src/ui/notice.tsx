// A problem in words, with what can be done about it.
import type { ReactNode } from "react";
import { explain, type Problem } from "../api/problem";
import { useSecondsUntil } from "./countdown";
import { AlertIcon, RetryIcon } from "./icons";

type Props = {
  problem: Problem;
  /** Offered only where trying again may help; counts down where the server said when. */
  onRetry?: (() => void) | undefined;
  retryLabel?: string;
  children?: ReactNode;
  /** A question rather than a fault. */
  calm?: boolean;
  /** Read out at once: for problems that answer something just done. */
  alert?: boolean;
};

export function Notice({
  problem,
  onRetry,
  retryLabel = "Try again",
  children,
  alert = false,
  calm = false,
}: Props): ReactNode {
  const words = explain(problem);
  const seconds = useSecondsUntil(problem.retryAt);
  return (
    <div className={calm ? "notice calm" : "notice"} role={alert ? "alert" : undefined}>
      {!calm && <AlertIcon />}
      <div>
        <p>{words.text}</p>
        {!calm && problem.requestId && problem.status !== 404 && !problem.limit && (
          <p className="request-id">Request {problem.requestId}</p>
        )}
        <div className="notice-actions">
          {onRetry && words.retry && (
            <button type="button" className="small" onClick={onRetry} disabled={seconds > 0}>
              <RetryIcon />
              {seconds > 0 ? `${retryLabel} in ${duration(seconds)}` : retryLabel}
            </button>
          )}
          {children}
        </div>
      </div>
    </div>
  );
}

export function duration(seconds: number): string {
  if (seconds < 90) return `${seconds} s`;
  return seconds < 5400 ? `${Math.ceil(seconds / 60)} min` : `${Math.ceil(seconds / 3600)} h`;
}
