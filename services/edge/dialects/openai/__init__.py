"""OpenAI's dialect below `/openai/v1`.

`routes` takes requests (`direct`, those in a hurry), `bodies` says what they hold, `prompt` turns one into the gateway's words, `answers`
sends what comes back, which `chunks`, `whole` and `vectors` spell; `errors` spells a refusal.
`responses` stands on runs instead, whose log `response_events` projects; `kept` lists and deletes what is stored of them, `response_ids` names them.
"""
