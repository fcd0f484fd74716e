"""A look at a model: the answer's objects, and what is put into them."""

from typing import Literal

from pydantic import BaseModel, Field

from api.presenting import model_sizes
from api.responses import JobError, ModelSizes
from pipeline.precheck import Fit, Inspection


class Tokenizer(BaseModel):
    """What turns text into numbers."""

    kind: str | None = Field(examples=["BPE"])
    vocabulary_size: int | None = Field(
        description="Tokens, added ones included; null where no readable file lists them"
    )
    special_tokens: dict[str, str] = Field(examples=[{"eos_token": "</s>"}])


class RecipeFit(BaseModel):
    """Whether a recipe goes with a model: the same is said when it is submitted."""

    recipe: str = Field(description="In short form")
    method: str
    fits: bool
    error: JobError | None = Field(description="Why it is refused; null where it fits")
    warnings: list[str] = Field(description="What a job would be told at its beginning")
    served_by: list[str] = Field(description="Runtimes that serve what it makes; a job's result says on which GPUs")


class Model(ModelSizes):
    """What a model's headers and small files tell of it."""

    object: Literal["model"] = "model"
    source: str
    model_type: str | None
    hidden_size: int
    vocabulary_size: int = Field(description="Rows of the embedding; a tokenizer may know fewer tokens")
    context_length: int | None = Field(description="Tokens that it reads at once; null where config.json does not say")
    tied_embeddings: bool = Field(description="Whether the embedding is the output head, too")
    experts: int | None = Field(description="Of a layer that has some; null where none has")
    experts_per_token: int | None
    tokenizer: Tokenizer
    has_chat_template: bool
    licence: str | None = Field(description="As its card names it, or its licence begins; null where there is neither")
    recipes: list[RecipeFit] = Field(description="The default of each method, and each preset")


def model_object(source: str, inspection: Inspection) -> Model:
    """Return a model, with what could be made of it."""
    facts, described = inspection.facts, inspection.description
    return Model(
        source=source,
        **dict(model_sizes(facts)),
        model_type=described.model_type,
        hidden_size=facts.hidden_size,
        vocabulary_size=facts.vocabulary_size,
        context_length=facts.position_count or None,
        tied_embeddings=facts.tied_embeddings,
        experts=facts.expert_count or None,
        experts_per_token=described.experts_per_token if facts.expert_count else None,
        tokenizer=Tokenizer(
            kind=described.tokenizer.kind,
            vocabulary_size=described.tokenizer.vocabulary_size,
            special_tokens=dict(described.tokenizer.special_tokens),
        ),
        has_chat_template=described.has_chat_template,
        licence=described.licence,
        recipes=[_recipe_fit(fit) for fit in inspection.fits],
    )


def _recipe_fit(fit: Fit) -> RecipeFit:
    error = fit.error and JobError(code=fit.error.code, message=fit.error.message, param=fit.error.param)
    served_by = dict.fromkeys(note.runtime for note in fit.recipe.runtimes if note.serves and fit.error is None)
    return RecipeFit(
        recipe=fit.name,
        method=fit.recipe.method.name,
        fits=fit.error is None,
        error=error,
        warnings=list(fit.warnings),
        served_by=list(served_by),
    )
