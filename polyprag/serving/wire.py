"""What clients send, as OpenAI's interface has it; `polyprag` is ours.

Fields that only steer the connection, or that nothing here depends on, are left out: whatever else
a client sends is passed over, but what would change the answer and can't be done is refused.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

StopTexts = str | Annotated[list[str], Field(max_length=16)]
TokenIds = Annotated[list[int], Field(min_length=1)]


class PolypragFields(BaseModel):
    """How a request is answered, beyond what its model's name says.

    Attributes:
        mode: closed, rag, poly, combine or routed.
        top_k: passages that are searched for.
        passages: keys or ids of passages that are used in a search's place.
        mixture: keys of passages, and what each one's gates count.
        gates: whether the mixture of experts is told, too.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    mode: Literal["closed", "rag", "poly", "combine", "routed"] | None = None
    top_k: int | None = None
    passages: list[str | int] | None = None
    mixture: dict[str, float] | None = None
    gates: bool = False


class _Continued(BaseModel):
    """What every request that is continued may have."""

    model: str
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None  # as vLLM has it: -1 and 0 are all tokens
    seed: int | None = None
    stop: StopTexts | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    ignore_eos: bool = False
    logit_bias: dict[str, float] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    polyprag: PolypragFields | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with what it used."""
        return bool((self.stream_options or {}).get("include_usage"))


class CompletionBody(_Continued):
    """`POST /v1/completions`."""

    prompt: str | TokenIds | list[str] | list[TokenIds]
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0)] | None = None
    best_of: int | None = None
    suffix: str | None = None

    @property
    def prompts(self) -> list[str | tuple[int, ...]]:
        """Each prompt, as text or as token ids."""
        given = self.prompt
        if isinstance(given, str):
            return [given]
        if given and isinstance(given[0], int):
            return [tuple(given)]
        return [each if isinstance(each, str) else tuple(each) for each in given]  # type: ignore[arg-type]


class TextPart(BaseModel):
    """A part of a message; others than texts can't be read."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """What somebody says."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    @property
    def text(self) -> str:
        """All of it."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content or ())


class ChatBody(_Continued):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    response_format: dict[str, Any] | None = None


class EmbeddingsBody(BaseModel):
    """`POST /v1/embeddings`."""

    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class RetrieveBody(BaseModel):
    """`POST /v1/retrieve`, which is ours."""

    model_config = ConfigDict(extra="forbid")

    query: str | list[str]
    top_k: Annotated[int, Field(ge=1)] | None = None
    method: Literal["bm25", "dense", "hybrid"] | None = None
    gates: bool = False  # with the mixture of what is found: sites x experts
