-- The functions at a turn's boundaries go by keys, so that a plan that knows the values is no better than one that does not. A new connection would
-- make it anew five times over before it kept one, each time for longer than the statement itself takes.
ALTER FUNCTION chat.begin_run_at_head SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION chat.keep_runs SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION chat.lock_run SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION chat.end_run SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION chat.load_run SET plan_cache_mode = force_generic_plan;
