"""What a model is sent, and how much history fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.chat.asking import Earlier, Model, PromptMessage, Role, ToolCall
from services.chat.domain import Part, PartKind
from services.chat.prompt import UNKNOWN_OUTCOME, Prompt, estimate_tokens, history_budget


def model(window: int, most: int = 0) -> Model:
    return Model("fast", "openai", "m", default=True, context_window_tokens=window, max_output_tokens=most)


def said(role: Role, text: str) -> Earlier:
    return Earlier(role, (Part(PartKind.TEXT, text),))


def use(tool_call_id: str) -> Part:
    return Part(PartKind.TOOL_USE, "{}", tool_call_id, "look")


def result(tool_call_id: str, text: str) -> Part:
    return Part(PartKind.TOOL_RESULT, text, tool_call_id, "look")


def budget(given_model: Model | None, *, system: str = "", content: str = "", most: int = 10**6) -> int:
    return history_budget(given_model, system=system, content=content, most=most)


def test_a_model_that_is_not_known_gets_what_nearly_every_one_takes() -> None:
    assert budget(None) == budget(model(0)) == budget(model(8_192)) == int((8_192 - 2_048) * 0.9)


def test_the_answer_has_its_room() -> None:
    assert budget(model(100_000, most=1_000)) == int(99_000 * 0.9)
    assert budget(model(100_000, most=64_000)) == int((100_000 - 4_096) * 0.9)


def test_the_rest_of_the_prompt_has_its_room() -> None:
    assert budget(model(10_000), system="x" * 400, content="x" * 4_000) == int((10_000 - 2_500 - 1_100) * 0.9)


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 40_000), st.integers(0, 10**6))
def test_the_budget_is_never_negative_nor_above_its_bound(window: int, out: int, chars: int, most: int) -> None:
    assert 0 <= budget(model(window, out), content="é" * chars, most=most) <= most


def test_shortening_drops_the_older_half_until_none_is_left() -> None:
    history = tuple(said(Role.USER, str(number)) for number in range(5))
    prompt = Prompt("", history, "new")
    lengths = []
    while prompt.history:
        prompt = prompt.shortened()
        lengths.append([earlier.parts[0].text for earlier in prompt.history])
    assert lengths == [["3", "4"], ["4"], []]


def test_the_user_speaks_first_wherever_the_history_is_cut() -> None:
    history = tuple(
        said(role, text)
        for role, text in [(Role.ASSISTANT, "a"), (Role.ASSISTANT, "b"), (Role.USER, "c"), (Role.ASSISTANT, "d")]
    )
    assert [message.text for message in Prompt("system", history, "new").messages()] == ["system", "c", "d", "new"]
    assert [message.text for message in Prompt("", history[:2], "new").messages()] == ["new"]


def test_shortening_never_leaves_what_is_not_sent() -> None:
    """Otherwise the same prompt would be sent again."""
    history = (said(Role.USER, "a"), said(Role.ASSISTANT, "b"))
    assert Prompt("", history, "new").shortened().history == ()


def test_an_estimate_counts_bytes_not_characters() -> None:
    assert (estimate_tokens(""), estimate_tokens("abcde"), estimate_tokens("éé")) == (0, 2, 1)


LOOKED = (
    Part(PartKind.REASONING, "Hm."),
    Part(PartKind.TEXT, "Let me look. "),
    use("t1"),
    use("t2"),
    result("t2", "two"),
    result("t1", "one"),
    Part(PartKind.TEXT, "It is two."),
)


def test_an_answer_with_tools_is_told_step_by_step_with_its_results_in_the_order_of_the_calls() -> None:
    history = (said(Role.USER, "Which?"), Earlier(Role.ASSISTANT, LOOKED))
    assert Prompt("", history, "Sure?").messages() == [
        PromptMessage(Role.USER, "Which?"),
        PromptMessage(Role.ASSISTANT, "Let me look. ", (ToolCall("t1", "look", "{}"), ToolCall("t2", "look", "{}"))),
        PromptMessage(Role.TOOL, "one", tool_call_id="t1"),
        PromptMessage(Role.TOOL, "two", tool_call_id="t2"),
        PromptMessage(Role.ASSISTANT, "It is two."),
        PromptMessage(Role.USER, "Sure?"),
    ]


def test_a_model_that_knows_no_tools_is_told_the_texts_alone() -> None:
    history = (said(Role.USER, "Which?"), Earlier(Role.ASSISTANT, LOOKED))
    assert Prompt("", history, "Sure?").messages(tools=False) == [
        PromptMessage(Role.USER, "Which?"),
        PromptMessage(Role.ASSISTANT, "Let me look. It is two."),
        PromptMessage(Role.USER, "Sure?"),
    ]


def test_a_call_without_a_result_is_told_to_have_an_unknown_outcome() -> None:
    messages = Prompt("", (), "Hi").messages(LOOKED[:5])
    assert [message.text for message in messages[2:]] == [UNKNOWN_OUTCOME, "two"]


def test_the_answer_so_far_is_gone_on_with_where_it_ends_in_text() -> None:
    messages = Prompt("", (), "Hi").messages((Part(PartKind.TEXT, "Once upon"),))
    assert [message.role for message in messages] == [Role.USER, Role.ASSISTANT, Role.USER]
    assert messages[1].text == "Once upon"
    assert "exactly where it stops" in messages[2].text


def test_calls_of_two_answers_may_have_one_id() -> None:
    history = (said(Role.USER, "Which?"), Earlier(Role.ASSISTANT, LOOKED))
    messages = Prompt("", history, "Again.").messages(LOOKED[:6])
    ids = [call.id for message in messages for call in message.tool_calls]
    assert len(set(ids)) == len(ids) == 4
    assert ids == [message.tool_call_id for message in messages if message.role is Role.TOOL]


STEP = st.builds(
    lambda text, count, answered: (
        *([Part(PartKind.TEXT, "x" * text)] if text else []),
        *(use(f"t{number}") for number in range(count)),
        *(result(f"t{number}", "said") for number in range(min(answered, count))),
    ),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 3),
)
ANSWER = st.lists(STEP, max_size=4).map(lambda steps: tuple(part for step in steps for part in step))


@given(st.lists(st.tuples(st.sampled_from([Role.USER, Role.ASSISTANT]), ANSWER), max_size=8), ANSWER, st.integers(0, 5))
def test_calls_and_results_come_together_however_the_history_is_cut(
    given_history: list[tuple[Role, tuple[Part, ...]]], answer: tuple[Part, ...], cuts: int
) -> None:
    """Whatever is stored and wherever it is cut: each result follows its call, each call has one result, nothing is empty."""
    history = tuple(
        Earlier(role, parts if role is Role.ASSISTANT else (Part(PartKind.TEXT, "Hi"),))
        for role, parts in given_history
    )
    prompt = Prompt("", history, "Hi")
    for _ in range(cuts):
        prompt = prompt.shortened()
    open_calls: list[str] = []
    for message in prompt.messages(answer):
        if message.role is Role.TOOL:
            assert message.tool_call_id == open_calls.pop(0)
        else:
            assert not open_calls
            assert message.text or message.tool_calls
        open_calls += [call.id for call in message.tool_calls]
    assert not open_calls


def test_a_history_longer_than_the_gateway_takes_is_halved_until_it_fits() -> None:
    history = tuple(said(role, "x" * 300_000) for role in (Role.USER, Role.ASSISTANT) * 10)
    messages = Prompt("system", history, "new").messages()
    assert sum(len(message.text) for message in messages) < 3 * 1024 * 1024
    assert len(messages) == 12
    many = tuple(Earlier(role, LOOKED) for role in (Role.USER, Role.ASSISTANT) * 200)
    assert len(Prompt("system", many, "new").messages()) <= 1_000
