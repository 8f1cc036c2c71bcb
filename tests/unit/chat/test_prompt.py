"""What a model is sent, and how much history fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.chat.ports import Model, PromptMessage, Role
from services.chat.prompt import Prompt, estimate_tokens, history_budget


def model(window: int, most: int = 0) -> Model:
    return Model("fast", "openai", "m", default=True, context_window_tokens=window, max_output_tokens=most)


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
    history = tuple(PromptMessage(Role.USER, str(number)) for number in range(5))
    prompt = Prompt("", history, "new")
    lengths = []
    while prompt.history:
        prompt = prompt.shortened()
        lengths.append([message.text for message in prompt.history])
    assert lengths == [["3", "4"], ["4"], []]


def test_the_user_speaks_first_wherever_the_history_is_cut() -> None:
    history = tuple(
        PromptMessage(role, text)
        for role, text in [(Role.ASSISTANT, "a"), (Role.ASSISTANT, "b"), (Role.USER, "c"), (Role.ASSISTANT, "d")]
    )
    assert [message.text for message in Prompt("system", history, "new").messages()] == ["system", "c", "d", "new"]
    assert [message.text for message in Prompt("", history[:2], "new").messages()] == ["new"]


def test_shortening_never_leaves_what_is_not_sent() -> None:
    """Otherwise the same prompt would be sent again."""
    history = (PromptMessage(Role.USER, "a"), PromptMessage(Role.ASSISTANT, "b"))
    assert Prompt("", history, "new").shortened().history == ()


def test_an_estimate_counts_bytes_not_characters() -> None:
    assert (estimate_tokens(""), estimate_tokens("abcde"), estimate_tokens("éé")) == (0, 2, 1)
