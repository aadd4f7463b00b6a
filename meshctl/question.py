"""A question as the operator puts it, and the request that it becomes. Nothing is set that was not asked for."""

from dataclasses import dataclass

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prompt with the options of `meshctl generate`; None leaves a choice to the mesh."""

    prompt: str
    system: str | None = None
    raw: bool = False
    model: str | None = None
    tier: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    session: str | None = None
    uses_cache: bool = True

    @property
    def turns(self) -> str | list[tuple[str, str]]:
        """The prompt alone, or with the system's message before it."""
        return self.prompt if self.system is None else [("system", self.system), ("user", self.prompt)]


def request_of(question: Question) -> router_service_pb2.GenerateRequest:
    """Everything but the prompt's text."""
    request = router_service_pb2.GenerateRequest(
        prompt=common_pb2.Prompt(raw=question.raw),
        sampling=common_pb2.SamplingParams(
            temperature=question.temperature, top_p=question.top_p, top_k=question.top_k, seed=question.seed
        ),
        stopping=common_pb2.StoppingParams(max_tokens=question.max_tokens, stop=question.stop),
        session_id=question.session or "",
    )
    if question.model:
        request.model = question.model
    elif question.tier:
        request.tier = question.tier
    if not question.uses_cache:
        request.cache.mode = common_pb2.CACHE_MODE_OFF
    return request
