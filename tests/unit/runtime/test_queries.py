"""SQL lives in files, by name."""

from pathlib import Path

import pytest

from runtime.queries import load


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "queries.sql"
    file.write_text(text)
    return file


def test_statements_are_found_by_name_without_comment_and_semicolon(tmp_path: Path) -> None:
    file = write(tmp_path, "-- name: one\n-- Says one.\nSELECT 1;\n\n-- name: two\n-- Says two.\nSELECT\n  2\n")
    assert load(file) == {"one": "SELECT 1", "two": "SELECT\n  2"}


@pytest.mark.parametrize(
    "text",
    [
        "-- name: one\nSELECT 1;",
        "-- name: one\n-- Says one.\n",
        "-- name: one\n-- Says one.\nSELECT 1;\n-- name: one\n-- Again.\nSELECT 1;",
    ],
    ids=["no purpose", "no statement", "twice"],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="one"):
        load(write(tmp_path, text))
