"""Every statement is named where it is used, and none is left over."""

from pathlib import Path

import pytest

from runtime import queries
from services.data.composition import load_queries

SERVICE = Path(__file__).parents[3] / "services" / "data"


@pytest.mark.parametrize("name", sorted(load_queries()))
def test_every_statement_is_used(name: str) -> None:
    code = "".join(path.read_text() for path in SERVICE.rglob("*.py"))
    assert f'"{name}"' in code


def test_no_file_of_statements_hides_anothers() -> None:
    """They are one dictionary at run time: a name that comes twice would replace the other's statement."""
    files = [queries.load(path) for path in SERVICE.rglob("queries.sql")]
    assert sum(map(len, files)) == len(load_queries())


def test_statements_list_their_columns() -> None:
    assert [name for name, statement in load_queries().items() if "*" in statement.replace("[*]", "")] == []
