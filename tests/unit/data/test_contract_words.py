"""The contract's words and the domain's are the same set: a word added to one side alone fails here, not in production."""

from typing import Any

import pytest

from parley.data.v1 import data_pb2 as pb
from services.data.conversations import servicer as conversations
from services.data.conversations.domain import MessageState, PartKind, Role
from services.data.queue.domain import ClaimKind
from services.data.runs import servicer as runs
from services.data.runs.domain import ANSWER_STATE, RunStatus
from services.data.runs.starting import BranchKind, OnConflict


@pytest.mark.parametrize(
    ("words", "spelled", "contract"),
    [
        (Role, conversations._ROLES, pb.Role),
        (MessageState, conversations._STATES, pb.MessageState),
        (RunStatus, runs._STATUSES, pb.RunStatus),
        (OnConflict, runs._CONFLICTS, pb.OnConflict),
        (ClaimKind, runs._KINDS, pb.Claim.Kind),
    ],
)
def test_every_word_of_the_domain_is_one_of_the_contract(words: Any, spelled: dict[Any, int], contract: Any) -> None:
    assert set(spelled) == set(words)
    assert sorted(spelled.values()) == [number for number in sorted(contract.values()) if number != 0]
    for word, number in spelled.items():
        assert contract.Name(number).endswith(f"_{word.value.upper()}")


def test_every_kind_of_part_is_one_of_the_contract() -> None:
    assert {kind.value for kind in PartKind} == {
        field.name for field in pb.Part.DESCRIPTOR.oneofs_by_name["kind"].fields
    }


def test_every_branch_is_one_of_the_contract() -> None:
    fields = pb.BeginRunRequest.DESCRIPTOR.oneofs_by_name["branch"].fields
    assert {f"{kind.value}_message_id" for kind in BranchKind} == {field.name for field in fields}


def test_every_end_of_a_run_says_what_becomes_of_its_answer() -> None:
    assert set(ANSWER_STATE) == set(RunStatus) - {RunStatus.QUEUED, RunStatus.RUNNING}
    assert MessageState.PARTIAL not in ANSWER_STATE.values()
