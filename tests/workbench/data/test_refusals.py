"""Conversations that a chat template refuses are bad rows, and named before anything is loaded."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_jsonl
from tests.workbench.data.conftest import byte_level
from workbench.data.base_files import read_base_files
from workbench.data.batching import encode_demonstrations, encode_prompts
from workbench.data.readers import read_demonstrations, read_preferences, read_prompts
from workbench.data.records import Message, Prompt
from workbench.data.refusals import check_template
from workbench.data.rules import RowRules
from workbench.data.template import ensure_template
from workbench.data.tokenise import encode_prompt
from workbench.run.errors import WorkbenchError

GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% else %}{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"
)


def turns(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": f"text {number}"} for number, role in enumerate(roles)]


def rows(bad: int, good: int, *roles: str) -> list[dict[str, Any]]:
    """Good conversations and a number of refused ones, the first of them in the third line."""
    plain = [{"messages": turns("user", "assistant")} for _ in range(good)]
    return [*plain[:2], *({"messages": turns(*roles)} for _ in range(bad)), *plain[2:]]


REFUSED = [
    (GEMMA, ("system", "user", "assistant"), "System role not supported", "in front of the first user turn"),
    (MISTRAL, ("user", "user", "assistant"), "must alternate", "join consecutive turns of one speaker"),
    (MISTRAL, ("system", "user", "assistant"), "must alternate", "in front of the first user turn"),
    (MISTRAL, ("assistant", "user", "assistant"), "must alternate", "begin with the user"),
]
IDS = ["no system", "two users", "system first", "assistant first"]


def base(folder: Path, template: str, where: str) -> Path:
    """A base's folder with the files that are read before anything is loaded."""
    folder.mkdir()
    settings: dict[str, Any] = {"bos_token": "<s>", "eos_token": {"content": "</s>"}}
    if where == "settings":
        settings["chat_template"] = template
    elif where == "list":
        settings["chat_template"] = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": template}]
    else:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return folder


@pytest.fixture
def tokenizer() -> Any:
    made = byte_level()
    ensure_template(made)
    return made


@pytest.mark.parametrize("where", ["settings", "list", "file"])
@pytest.mark.parametrize(("template", "roles", "said", "remedy"), REFUSED, ids=IDS)
def test_a_refusal_names_row_reason_and_remedy_before_anything_is_loaded(
    tmp_path, where, template, roles, said, remedy
):
    files = read_base_files(str(base(tmp_path / "base", template, where)))
    path = write_jsonl(tmp_path / "data.jsonl", rows(3, 5, *roles))
    records = read_demonstrations(path)
    with pytest.raises(WorkbenchError) as caught:
        check_template(files, records, source=path, rules=RowRules())
    assert caught.value.place == f"{path}, line 3"
    assert said in caught.value.problem
    assert "3 of 8 rows" in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(("template", "roles", "said", "remedy"), REFUSED, ids=IDS)
def test_the_tokenizers_template_refuses_the_same_rows(tmp_path, tokenizer, template, roles, said, remedy):
    tokenizer.chat_template = template
    path = write_jsonl(tmp_path / "data.jsonl", rows(2, 3, *roles))
    with pytest.raises(WorkbenchError) as caught:
        encode_demonstrations(tokenizer, read_demonstrations(path), max_length=500, source=path)
    assert caught.value.place == f"{path}, line 3"
    assert said in caught.value.problem
    assert remedy in caught.value.remedy


def test_rare_refusals_are_left_out_counted_and_listed(tmp_path, tokenizer, caplog):
    tokenizer.chat_template = GEMMA
    path = write_jsonl(tmp_path / "data.jsonl", rows(1, 99, "system", "user", "assistant"))
    records, rules = read_demonstrations(path), RowRules()
    with caplog.at_level(logging.WARNING, logger="workbench.data.refusals"):
        encoded = encode_demonstrations(tokenizer, records, max_length=500, source=path, rules=rules)
    assert len(encoded.rows) == 99
    assert 2 not in encoded.kept
    assert encoded.dropped == 0
    assert rules.left_out == [
        {"place": f"{path}, line 3", "problem": "refused by the chat template: System role not supported"}
    ]
    assert any("left out 1 of 100 rows" in message for message in caplog.messages)


@pytest.mark.parametrize(("policy", "kept"), [("skip", 5), ("error", None)])
def test_the_policy_for_bad_rows_decides(tmp_path, tokenizer, policy, kept):
    tokenizer.chat_template = GEMMA
    path = write_jsonl(tmp_path / "data.jsonl", rows(3, 5, "system", "user", "assistant"))
    records, rules = read_demonstrations(path), RowRules(bad_rows=policy)
    if kept is None:
        with pytest.raises(WorkbenchError, match="line 3"):
            encode_demonstrations(tokenizer, records, max_length=500, source=path, rules=rules)
    else:
        assert len(encode_demonstrations(tokenizer, records, max_length=500, source=path, rules=rules).rows) == kept


def test_a_file_of_only_refused_rows_is_an_error_under_any_rule(tmp_path, tokenizer):
    tokenizer.chat_template = GEMMA
    path = write_jsonl(tmp_path / "data.jsonl", rows(3, 0, "system", "user", "assistant"))
    with pytest.raises(WorkbenchError, match="so are 3 of 3 rows"):
        encode_demonstrations(
            tokenizer, read_demonstrations(path), max_length=500, source=path, rules=RowRules(bad_rows="skip")
        )


def test_prompts_and_pairs_are_checked_alike(tmp_path, tokenizer):
    tokenizer.chat_template = GEMMA
    files = read_base_files(str(base(tmp_path / "base", GEMMA, "file")))
    asked = {"prompt": turns("system", "user")}
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [asked])
    with pytest.raises(WorkbenchError, match=r"prompts\.jsonl, line 1"):
        encode_prompts(tokenizer, read_prompts(prompts), max_length=500, source=prompts)
    pairs = write_jsonl(
        tmp_path / "pairs.jsonl",
        [{**asked, "chosen": turns("assistant"), "rejected": [{"role": "assistant", "content": "no"}]}],
    )
    with pytest.raises(WorkbenchError, match=r"pairs\.jsonl, line 1"):
        check_template(files, read_preferences(pairs), source=pairs, rules=RowRules())


def test_a_single_refused_prompt_is_a_clear_error_too(tokenizer):
    tokenizer.chat_template = GEMMA
    system = (Message(role="system", content="Be brief."), Message(role="user", content="Hi"))
    with pytest.raises(WorkbenchError, match=r"refuses a conversation of system, user: System role not supported"):
        encode_prompt(tokenizer, system)


def test_a_base_without_a_template_refuses_nothing(tmp_path):
    files = read_base_files(str(base(tmp_path / "base", "", "settings")))
    system = Prompt(id="p", prompt=(Message(role="system", content="a"), Message(role="user", content="b")))
    check_template(files, [system], source=tmp_path, rules=RowRules())
    check_template(None, [system], source=tmp_path, rules=RowRules())


def test_a_template_that_cannot_be_parsed_here_is_left_to_the_tokenizer(tmp_path):
    files = read_base_files(str(base(tmp_path / "base", "{% unheard_of %}", "settings")))
    check_template(
        files, [Prompt(id="p", prompt=(Message(role="user", content="b"),))], source=tmp_path, rules=RowRules()
    )


def test_nothing_heavy_is_loaded_for_it():
    check = "import sys, workbench.data.refusals; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
