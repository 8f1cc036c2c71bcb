"""What Prometheus is told: by model and outcome, never by user."""

from prometheus_client import Counter, Gauge, Histogram

RUNS_ACTIVE = Gauge("parley_chat_runs_active", "Runs this instance owns, until their answer is stored.")
RUNS_ENDED = Counter("parley_chat_runs_ended_total", "Runs ended, by status and reason.", ["status", "reason"])
FIRST_DELTA_SECONDS = Histogram(
    "parley_chat_first_delta_seconds",
    "From the start of a run to its first delta.",
    ["model"],
    buckets=[0.005 * 2**n for n in range(14)],
)
TOKENS = Counter("parley_chat_tokens_total", "Tokens used, by model and kind.", ["model", "kind"])
WATCHERS = Gauge("parley_chat_watchers", "Streams that follow a run here.")
CHECKPOINT_FAILURES = Counter(
    "parley_chat_checkpoint_failures_total", "Checkpoints that data did not take.", ["reason"]
)
FINISH_RETRIES = Counter("parley_chat_finish_retries_total", "Tries to store an answer that failed.", ["reason"])
TAIL_FAILURES = Counter("parley_chat_tail_failures_total", "Uses of Redis that failed.", ["use"])
TAIL_ENTRIES = Counter("parley_chat_tail_entries_total", "Entries appended to logs in Redis.")
REPLICAS = Gauge("parley_chat_replicas", "Logs of other instances' runs followed here.")
