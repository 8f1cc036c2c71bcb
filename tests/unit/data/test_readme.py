"""The README of the service says what there is."""

import dataclasses
from pathlib import Path

from parley.data.v1 import data_pb2 as pb
from services.data.config import DataConfig

README = (Path(__file__).parents[3] / "services" / "data" / "README.md").read_text()


def test_every_setting_is_in_the_table() -> None:
    for field in dataclasses.fields(DataConfig):
        assert f"`PARLEY_DATA_{field.name.upper()}`" in README
        if field.default is not dataclasses.MISSING and field.default != "":
            assert (
                f"| {field.default:g} |" in README
                if isinstance(field.default, float)
                else f"| {field.default} |" in README
            )


def test_every_call_is_listed() -> None:
    for service in pb.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            assert f"`{method.name}`" in README
