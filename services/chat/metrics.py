"""What Prometheus is told: by model and outcome, never by user."""

from prometheus_client import Counter, Gauge, Histogram

RUNS_ACTIVE = Gauge("parley_chat_runs_active", "Runs this instance owns, until their answer is stored.")
RUNS_ENDED = Counter("parley_chat_runs_ended_total", "Runs ended, by status and reason.", ["status", "reason"])
DEAD_LETTERS = Counter("parley_chat_dead_letters_total", "Background runs given up, by reason.", ["reason"])
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
STEPS = Counter("parley_chat_steps_total", "Model calls made for runs, the ones that failed included.")
RESETS = Counter(
    "parley_chat_resets_total", "Steps done again after something of them had been visible, by cause.", ["cause"]
)
TOOL_SECONDS = Histogram("parley_chat_tool_seconds", "Calls of tools, by tool and outcome.", ["tool", "outcome"])
TITLES = Counter("parley_chat_titles_total", "Titles made for conversations, by where they come from.", ["source"])
DOUBTS = Counter("parley_chat_doubts_total", "Times a log was held, since nobody could say whose run it was.")
CLAIMS = Counter("parley_chat_claims_total", "Runs claimed, by why nobody owned them.", ["kind"])
CLAIM_FAILURES = Counter(
    "parley_chat_claim_failures_total", "Claims, and claimed runs, that came to nothing.", ["reason"]
)
CLAIMED_ACTIVE = Gauge("parley_chat_claimed_active", "Claimed runs that are live here.")
QUEUED = Counter("parley_chat_queued_total", "Runs put into the queue here.")
QUEUE_WAIT_SECONDS = Histogram(
    "parley_chat_queue_wait_seconds",
    "From a run's creation to its first claim.",
    buckets=[0.05 * 2**n for n in range(14)],
)
HAND_OVERS = Counter("parley_chat_hand_overs_total", "Runs given back for another instance to go on with.")
FENCED = Counter("parley_chat_fenced_total", "Writes refused because another owner has the run, by where.", ["where"])
