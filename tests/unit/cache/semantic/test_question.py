"""What two requests must have in common before their questions are compared, and which requests have none."""

import pytest

from services.cache.semantic.question import question_of


def a_request(text="hi", **changes):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return {"prompt": {"messages": {"messages": messages}}, "model": "m", "sampling": {"temperature": 0.0}, **changes}


def partition(request, tenant="t", sharing=()):
    return question_of(tenant, request, sharing).partition


def with_messages(*messages):
    return a_request(prompt={"messages": {"messages": list(messages)}})


SYSTEM = {"role": "system", "content": "Be brief."}
LAST = {"role": "user", "content": "hi"}

OTHER_FRAMES = {
    "model": a_request(model="m2"),
    "revision": a_request(revision="r2"),
    "template": a_request(template_digest="x"),
    "sampling": a_request(sampling={"temperature": 0.0, "top_p": 0.5}),
    "stopping": a_request(stopping={"max_tokens": 5}),
    "output": a_request(output={"logprobs": 2}),
    "constraint": a_request(constraint={"regex": "a+"}),
    "compressor": a_request(compressor_version="2"),
    "system prompt": with_messages({"role": "system", "content": "Be long."}, LAST),
    "earlier turn": with_messages(SYSTEM, {"role": "user", "content": "before"}, LAST),
    "speaker": with_messages(SYSTEM, {**LAST, "name": "ann"}),
    "tools": a_request(prompt={**a_request()["prompt"], "tools": [{"name": "search"}]}),
    "raw": a_request(prompt={**a_request()["prompt"], "raw": True}),
    "form": a_request(prompt={"text": "hi"}),
    "field of a newer contract": a_request(**{"?": [(99, "1")]}),
}


def test_only_the_last_user_message_may_differ():
    assert partition(a_request("one")) == partition(a_request("another"))
    assert question_of("t", a_request("one"), ()).text == "one"


def test_a_bare_text_is_its_own_question():
    question = question_of("t", {"prompt": {"text": "hello"}, "model": "m"}, ())
    assert question.text == "hello"


@pytest.mark.parametrize("part", OTHER_FRAMES)
def test_whatever_else_differs_keeps_questions_apart(part):
    assert partition(OTHER_FRAMES[part]) != partition(a_request())


def test_tenants_and_those_who_share_are_kept_apart():
    names = {
        partition(a_request()),
        partition(a_request(), tenant="t2"),
        partition(a_request(), sharing=("principal", "ann")),
        partition(a_request(), sharing=("session", "ann", "s")),
    }
    assert len(names) == 4


@pytest.mark.parametrize(
    "request_",
    [
        {"prompt": {"token_ids": {"ids": [1, 2]}}, "model": "m"},
        with_messages(SYSTEM),
        with_messages(LAST, {"role": "assistant", "content": "yes"}),
        with_messages(LAST, {"role": "tool", "content": "42", "tool_call_id": "c"}),
        with_messages({"role": "user", "content": ""}),
        {"model": "m"},
    ],
)
def test_a_request_without_a_last_user_message_has_no_question(request_):
    assert question_of("t", request_, ()) is None
