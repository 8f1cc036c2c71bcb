"""What the providers and aliases API takes and gives."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from google.protobuf.duration_pb2 import Duration
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from parley.gateway.v1 import provider_pb2 as pb
from services.edge.conversations.shapes import without_nul

_ORIGINS = {pb.ORIGIN_ENVIRONMENT: "environment", pb.ORIGIN_STORED: "stored"}
Origin = Literal["environment", "stored"]
Text = Annotated[str, Field(max_length=4096), AfterValidator(without_nul)]
ModelName = Annotated[str, Field(max_length=200), AfterValidator(without_nul)]
ModelNames = Annotated[list[ModelName], Field(max_length=500)]
Secret = Annotated[str, Field(max_length=16_384), AfterValidator(without_nul)]
Settings = Annotated[dict[Text, Secret], Field(max_length=32)]
Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
_KEY = "The key, or where it is: `env:NAME`, `file:PATH`, `vault:PATH#FIELD`. Keys are read back masked."


class Timeouts(BaseModel):
    """Deadlines in seconds; 0: the next wider ones."""

    model_config = ConfigDict(extra="forbid", strict=True)

    first_token_s: Seconds = 0
    gap_s: Seconds = 0
    total_s: Seconds = 0

    @classmethod
    def of(cls, told: pb.ProviderTimeouts) -> Self:
        """Converts what the gateway answers."""
        first, gap, total = (each.ToNanoseconds() / 1e9 for each in (told.first_token, told.gap, told.total))
        return cls(first_token_s=first, gap_s=gap, total_s=total)

    def message(self) -> pb.ProviderTimeouts:
        """Converts to what the gateway is asked."""
        return pb.ProviderTimeouts(
            first_token=_duration(self.first_token_s), gap=_duration(self.gap_s), total=_duration(self.total_s)
        )


class NewProvider(BaseModel):
    """A provider to be added."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Text
    type: Text
    base_url: Text = ""
    api_key: Annotated[Secret, Field(description=_KEY)] = ""
    settings: Settings = {}
    models: ModelNames = []
    default_model: ModelName = ""
    embedding_model: ModelName = ""
    timeouts: Timeouts = Timeouts()
    enabled: bool = True

    def message(self) -> pb.Provider:
        """Converts to what the gateway is asked."""
        return pb.Provider(**self.model_dump(exclude={"timeouts"}), timeouts=self.timeouts.message())


class ProviderChange(BaseModel):
    """What changes of a provider; what is left out stays."""

    model_config = ConfigDict(extra="forbid", strict=True)

    base_url: Text | None = None
    api_key: Annotated[Secret | None, Field(description=_KEY)] = None
    settings: Settings | None = None
    models: ModelNames | None = None
    default_model: ModelName | None = None
    embedding_model: ModelName | None = None
    timeouts: Timeouts | None = None
    enabled: bool | None = None

    def message(self, name: str) -> pb.UpdateProviderRequest:
        """Converts to what the gateway is asked."""
        plain = self.model_dump(exclude={"settings", "models", "timeouts"}, exclude_none=True)
        return pb.UpdateProviderRequest(
            name=name,
            **plain,
            settings=pb.ProviderSettings(values=self.settings) if self.settings is not None else None,
            models=pb.ProviderModels(names=self.models) if self.models is not None else None,
            timeouts=self.timeouts.message() if self.timeouts is not None else None,
        )


class Provider(BaseModel):
    """A provider; its secrets are masked."""

    name: str
    type: str
    base_url: str
    api_key: str
    settings: dict[str, str]
    models: list[str]
    default_model: str
    embedding_model: str
    timeouts: Timeouts
    enabled: bool
    default: bool
    default_embeddings: bool
    origin: Annotated[Origin, Field(description="Those of the environment cannot be changed here.")]
    created_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]
    updated_at: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})]

    @classmethod
    def of(cls, told: pb.Provider) -> Self:
        """Converts what the gateway answers."""
        return cls(
            name=told.name,
            type=told.type,
            base_url=told.base_url,
            api_key=told.api_key,
            settings=dict(told.settings),
            models=list(told.models),
            default_model=told.default_model,
            embedding_model=told.embedding_model,
            timeouts=Timeouts.of(told.timeouts),
            enabled=told.enabled,
            default=told.default,
            default_embeddings=told.default_embeddings,
            origin=_ORIGINS[told.origin],  # type: ignore[arg-type]
            created_at=told.create_time.ToJsonString() if told.HasField("create_time") else None,
            updated_at=told.update_time.ToJsonString() if told.HasField("update_time") else None,
        )


class ProviderPage(BaseModel):
    """Providers by name."""

    providers: list[Provider]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]


class Trial(BaseModel):
    """Whether a provider works."""

    ok: bool
    code: Annotated[str, Field(description="Why not, such as `provider_auth_failed`; empty when ok.")]
    detail: Annotated[str, Field(description="Why not, in words.")]
    first_token_s: float


class Target(BaseModel):
    """One model behind an alias."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[Text, Field(description="`<provider>/<model>`, or another alias.")]
    weight: Annotated[int, Field(ge=1, le=1000, description="Share among the targets of its rank.")] = 1
    rank: Annotated[int, Field(ge=0, le=1000, description="0 is asked first.")] = 0


class AliasBody(BaseModel):
    """What an alias stands for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    targets: Annotated[list[Target], Field(min_length=1, max_length=32)]
    timeouts: Timeouts = Timeouts()
    default: Annotated[bool, Field(description="It answers calls that name nothing.")] = False

    def message(self, name: str) -> pb.Alias:
        """Converts to what the gateway is asked."""
        targets = (pb.Target(model=one.model, weight=one.weight, rank=one.rank) for one in self.targets)
        return pb.Alias(name=name, targets=targets, timeouts=self.timeouts.message(), default=self.default)


class NewAlias(AliasBody):
    """An alias to be added."""

    name: Text


class Alias(AliasBody):
    """An alias."""

    name: str
    origin: Annotated[Origin, Field(description="Those of the environment cannot be changed here.")]

    @classmethod
    def of(cls, told: pb.Alias) -> Self:
        """Converts what the gateway answers."""
        return cls(
            name=told.name,
            targets=[Target(model=one.model, weight=one.weight or 1, rank=one.rank) for one in told.targets],
            timeouts=Timeouts.of(told.timeouts),
            default=told.default,
            origin=_ORIGINS[told.origin],  # type: ignore[arg-type]
        )


class AliasPage(BaseModel):
    """Aliases by name."""

    aliases: list[Alias]
    next_page_token: Annotated[str, Field(description="Empty on the last page.")]


class DefaultProvider(BaseModel):
    """Which provider answers what names nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[Text, Field(description="Empty: none is the default any more.")]


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
