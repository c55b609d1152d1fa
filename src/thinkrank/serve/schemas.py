"""What is asked and answered over HTTP."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, PositiveFloat, PositiveInt

Id = Annotated[str, Field(min_length=1, max_length=500)]
_TOY_STORY: list[JsonValue] = ["Toy Story", "Aladdin", "The Lion King"]


class _Asked(BaseModel):
    """A misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Told(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="null")


class Who(_Asked):
    """Say for whom: a user whom the run knows, or any history; without either, somebody of whom nothing is known."""

    user: Id | None = Field(None, description="id of a user of the run's data; their history is looked up")
    history: list[Id] | None = Field(
        None, description="what the user took, oldest first, by item id or title; used instead of the known history"
    )


class RecommendRequest(Who):
    """Ask for recommendations."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"history": _TOY_STORY, "k": 5},
                {"user": "42", "k": 10, "think": True, "temperature": 0.7, "budget_ms": 2000},
            ]
        }
    )
    k: PositiveInt = Field(10, description="how many items")
    think: bool | Literal["auto"] | None = Field(
        None, description="whether stages that can think do so; auto where it pays; null as the run's settings say"
    )
    samples: int = Field(1, ge=1, le=16, description="thoughts of each stage that can take the mean of several")
    budget_ms: PositiveFloat | None = Field(
        None, description="wall time that the answer may take, waiting included; what is left out is said"
    )
    budget_tokens: int | None = Field(None, ge=0, description="tokens that language models may write")
    exclude: list[Id] = Field([], max_length=10_000, description="items to leave out, by id or title")
    filter_seen: bool | None = Field(
        None, description="leave out the items of the history; null for yes, unless the run's data repeats"
    )
    temperature: float | None = Field(
        None, ge=0, le=10, description="temperature of thoughts; 0 is greedy; null as the run's settings say"
    )
    max_tokens: PositiveInt | None = Field(None, description="tokens of a thought at most")
    seed: int | None = Field(None, ge=0, lt=2**31, description="seed of sampled thoughts")
    thought: str | None = Field(
        None, max_length=8_000, description="a thought to answer from, in place of one that the retriever writes"
    )
    reasons: int = Field(2, ge=0, le=5, description="counted reasons for each item at most")
    every_text: bool = Field(False, description="also give written reasons that failed the check of their claims")
    timeout_ms: float | None = Field(None, ge=1, description="give the request up after this time")


class ItemFacts(_Told):
    """Tell which item it is."""

    item: str = Field(description="its id")
    title: str
    year: int | None = None
    categories: list[str] = []


class ClaimFacts(_Told):
    """Tell one thing that a text claims."""

    kind: str
    said: str
    true: bool


class ReasonFacts(_Told):
    """Give one reason."""

    text: str
    source: Literal["counted", "written"] = Field(
        description="counted in what others did, or written by the language model"
    )
    claims: list[ClaimFacts] = []


class RecommendedItem(ItemFacts):
    """Give one recommended item."""

    place: PositiveInt
    score: FiniteFloat | None
    reasons: list[ReasonFacts] = []
    entropy_before: float | None = Field(None, description="of the choice of this place before thinking, in nats")
    entropy_after: float | None = Field(None, description="the same after thinking")
    steps: int | None = Field(None, description="latent thoughts before this choice")


class ThoughtFacts(_Told):
    """Give what the retriever wrote before it answered."""

    text: str
    tokens: int
    finish_reason: str
    may_be_shown: bool = Field(description="whether the check of its claims found no fault")
    faults: list[str] = []
    claims: list[ClaimFacts] = []


class StageFacts(_Told):
    """Tell what one stage did, and what it cost."""

    stage: str
    milliseconds: float
    tokens: int
    items: int = Field(description="how many items it handed on")


class ModelFacts(_Told):
    """Tell what answered."""

    name: str
    version: str
    stages: dict[str, str] = Field(description="the kind of each stage")


class CatalogueFacts(_Told):
    """Tell from which items was chosen."""

    version: str
    items: int


class RecommendResponse(_Told):
    """Give recommendations."""

    id: str
    model: ModelFacts
    catalogue: CatalogueFacts
    user: str | None
    history: list[ItemFacts]
    thought: ThoughtFacts | None
    items: list[RecommendedItem]
    stages: list[StageFacts]
    degraded: bool
    left_out: list[str] = Field(description="what the budget made it leave out, in order")
    waited_ms: float
    total_ms: float


class Document(BaseModel):
    """Give a document as clients of rerankers do; the text is a title or an item id."""

    text: Id


class RerankRequest(Who):
    """Ask for an order of candidates, in the shape of Cohere's and Jina's clients."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {"model": "demo", "query": "\n".join(map(str, _TOY_STORY)), "documents": ["Fargo", "Babe"], "top_n": 2}
            ]
        },
    )
    model: str | None = Field(None, description="ignored: the run that is served answers")
    query: str = Field("", description="what the user took, one title or item id a line, oldest first")
    documents: list[Id | Document] = Field(min_length=1, description="candidates: titles or item ids")
    top_n: PositiveInt | None = Field(None, description="how many of the best to return; null for all")
    return_documents: bool = Field(False, description="repeat the text of each document in the answer")
    think: bool | None = Field(None, description="whether a thought comes first; null as the stage's settings say")


class RerankResult(_Told):
    """Give the place of one document."""

    index: int = Field(description="its place among the documents of the request, from 0")
    relevance_score: float = Field(description="between 0 and 1; comparable within one answer")
    document: Document | None = None


class RerankResponse(_Told):
    """Give an order of documents."""

    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[RerankResult]
    usage: dict[str, int]
    meta: dict[str, Any]


class SlateCandidate(_Asked):
    """Offer one item to the re-ranker."""

    item: Id
    numeric: dict[str, FiniteFloat] = Field({}, description="its features that are numbers, by name")
    categorical: dict[str, str] = Field({}, description="its features that are words, by name")


class SlateRequest(Who):
    """Ask for a list that is written place by place."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"candidates": [{"item": "50", "numeric": {"score": 0.3}}, {"item": "181"}], "k": 2}]
        },
    )
    candidates: list[SlateCandidate] = Field(min_length=1)
    context: dict[str, FiniteFloat] = Field({}, description="features of the request as a whole, by name")
    k: PositiveInt = Field(10, description="places of the list")
    samples: int = Field(1, ge=1, le=64, description="lists written, of which the evaluator picks one")
    think: bool | None = Field(None, description="false never pauses to think; null as the run's settings say")


class SlateResponse(_Told):
    """Give a list."""

    id: str
    model: ModelFacts
    items: list[RecommendedItem]
    total_ms: float


class NewItem(_Asked):
    """Describe an item to add; columns that the catalogue has beside these may be given too."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"item": "w13", "title": "Red wine of 1987", "year": 1987}]}
    )
    item: Id
    title: Annotated[str, Field(min_length=1, max_length=2_000)]
    categories: list[str] | None = None
    description: str | None = None
    price: FiniteFloat | None = None
    brand: str | None = None
    year: int | None = Field(None, ge=-9999, le=9999)


class ItemsRequest(_Asked):
    """Add items."""

    items: list[NewItem] = Field(min_length=1)


class WithdrawRequest(_Asked):
    """Take items out of answers."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"items": ["w13"]}]})
    items: list[Id] = Field(min_length=1, max_length=10_000)


class ItemsChanged(_Told):
    """Tell what the catalogue is now."""

    added: int = 0
    withdrawn: int = 0
    catalogue: CatalogueFacts


class ItemsFound(_Told):
    """Give items whose titles hold the words."""

    items: list[ItemFacts]
    total: int


class Fault(_Told):
    """Tell what is wrong, in one line."""

    error: str
    request_id: str | None = None
