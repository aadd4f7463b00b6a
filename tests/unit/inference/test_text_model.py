"""Rules of prompts and templates."""

import json
from pathlib import Path

import pytest

from meshkit.errors import InvalidRequest
from services.inference.byte_tokenizer import END_TOKEN, END_TOKEN_ID, byte_tokenizer
from services.inference.chat_template import ChatTemplate
from services.inference.model_files import UnusableModel, read_model_files
from services.inference.requests import Prompt, ToolCall, Turn
from services.inference.text import TextModel, load_text_model

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}\n"
    "    {% if message.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}\n"
    "<{{ message.role }}>{{ message.content | trim }}\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
USER = Turn(role="user", content=" hi ")


def model(template: str = "") -> TextModel:
    return TextModel(byte_tokenizer(), template=ChatTemplate(template, {"bos_token": "^"}) if template else None)


def rendered(prompt: Prompt, template: str = "") -> str:
    text = model(template)
    return text.decode_all(text.encode(prompt))


def write_model(directory: Path, **files: object) -> Path:
    byte_tokenizer().save(str(directory / "tokenizer.json"))
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


def test_bare_text_is_one_user_turn_where_there_is_a_template() -> None:
    assert rendered(Prompt(text=" hi "), TEMPLATE) == "^<user>hi\n<assistant>"


def test_raw_text_goes_as_it_is() -> None:
    assert rendered(Prompt(text=" hi ", is_raw=True), TEMPLATE) == " hi "


def test_bare_text_goes_as_it_is_where_there_is_no_template() -> None:
    assert rendered(Prompt(text=" hi ")) == " hi "


def test_turns_without_a_template_become_lines_that_the_assistant_goes_on_from() -> None:
    turns = (Turn(role="system", content="Be brief."), Turn(role="user", content="hi"))
    assert rendered(Prompt(turns=turns)) == "system: Be brief.\nuser: hi\nassistant:"


def test_what_a_template_refuses_is_an_invalid_request_in_its_words() -> None:
    with pytest.raises(InvalidRequest, match="no tools here") as refusal:
        model(TEMPLATE).encode(Prompt(turns=(USER, Turn(role="tool", content="x"))))
    assert refusal.value.field == "prompt.messages"


@pytest.mark.parametrize(
    "attack", ["{{ messages.append(1) }}", "{{ ''.__class__.__mro__ }}", "{{ messages.nothing.at.all }}"]
)
def test_template_can_neither_change_nor_leave_its_sandbox(attack: str) -> None:
    with pytest.raises(InvalidRequest):
        model(attack).encode(Prompt(turns=(USER,)))


def test_template_sees_tool_calls_as_objects() -> None:
    call = ToolCall(id="1", name="f", arguments='{"b": [1]}')
    turns = (Turn(role="assistant", content="", tool_calls=(call,)),)
    template = "{{ messages[0].tool_calls[0].function.arguments.b | tojson }}"
    assert rendered(Prompt(turns=turns), template) == "[1]"


def test_template_loops_may_break_and_training_marks_show_their_text() -> None:
    template = "{% for m in messages %}{% break %}{% endfor %}{% generation %}x{{ 1 }}{% endgeneration %}"
    assert rendered(Prompt(turns=(USER,)), template) == "x1"


def test_end_tokens_of_all_files_count(tmp_path: Path) -> None:
    write_model(
        tmp_path,
        generation_config={"eos_token_id": [3, 4]},
        config={"eos_token_id": 5},
        tokenizer_config={"eos_token": {"content": END_TOKEN}},
    )
    assert load_text_model(tmp_path).eos_token_ids == (3, 4, 5, END_TOKEN_ID)


def test_template_is_found_in_its_new_and_its_old_places(tmp_path: Path) -> None:
    write_model(
        tmp_path,
        tokenizer_config={"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]},
    )
    assert read_model_files(tmp_path).template_source == "d"
    (tmp_path / "chat_template.jinja").write_text("j")
    assert read_model_files(tmp_path).template_source == "j"


def test_beginning_of_text_is_added_once_where_the_model_wants_it(tmp_path: Path) -> None:
    write_model(tmp_path, tokenizer_config={"add_bos_token": True, "bos_token": END_TOKEN})
    text = load_text_model(tmp_path)
    plain = text.encode(Prompt(text="a"))
    assert plain[0] == END_TOKEN_ID
    assert text.encode(Prompt(text=f"{END_TOKEN}a")) == plain


def test_directory_without_a_fast_tokenizer_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(UnusableModel, match=r"tokenizer\.json"):
        load_text_model(tmp_path)
