import json
import os
from pathlib import Path

import pytest

from workbench.run.errors import WorkbenchError
from workbench.run.sources import locate
from workbench.serve.bodies import ChatBody, Refusal, parse
from workbench.serve.http import listen
from workbench.serve.keys import Keys
from workbench.serve.records import THUMBS, Given, Inbox
from workbench.serve.start import ServeOptions, check_runs, models_of, serve
from workbench.serve.vllm import vllm_command, vllm_environment
from workbench.serve.writing import Answer

KEY = "0123456789abcdef0123456789"


def key_file(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_a_key_is_found_by_its_whole_text(tmp_path: Path) -> None:
    keys = Keys(key_file(tmp_path / "keys", f"# ours\nann {KEY}\nbob {KEY}x\n"))
    headers = [f"Bearer {KEY}", f"bearer {KEY}x", f"Bearer {KEY[:-1]}", f"Basic {KEY}", KEY, "", "Bearer "]
    assert [keys.name_of(header) for header in headers] == ["ann", "bob", *[None] * 5]
    assert Keys(None).name_of("") == "local"


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (f"ann {KEY}\n", 0o640, "others may read"),
        ("ann short\n", 0o600, "line 1"),
        (f"ann {KEY}\nann {KEY}x\n", 0o600, "line 2"),
        (f"../ann {KEY}\n", 0o600, "line 1"),
        (f"ann {KEY}\nbob {KEY}\n", 0o600, "line 2"),
        (f"ann {KEY}é\n".encode("latin-1"), 0o600, "line 1"),
        ("\n", 0o600, "holds no API key"),
    ],
)
def test_a_bad_file_of_keys_is_refused_without_its_keys(
    tmp_path: Path, text: str | bytes, mode: int, says: str
) -> None:
    with pytest.raises(WorkbenchError, match=says) as refused:
        Keys(key_file(tmp_path / "keys", text, mode))
    assert KEY not in str(refused.value)


def test_a_server_for_others_needs_keys(sft_run: Path) -> None:
    with pytest.raises(WorkbenchError, match="no key is required"):
        serve([str(sft_run)], ServeOptions(host="0.0.0.0"))


@pytest.mark.parametrize("port", [-1, 65536, 99_999_999])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(WorkbenchError, match=f"--port {port}: is not a port"):
        listen("127.0.0.1", port, option="--port ")


def test_neutral_values_pass_and_others_are_refused_by_name() -> None:
    asked = {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}
    body = parse(ChatBody, json.dumps({**asked, "n": 1, "top_p": 1.0, "tools": None, "stop": "x"}).encode())
    assert (body.messages[0].content, body.stops()) == ("Hi", ["x"])
    for changes, says in (
        ({"tools": [{"type": "function"}]}, "tools is supported only as"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "only parts of the type 'text'"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "'system', 'user' or 'assistant'"),
        ({"seed": "1"}, "seed: Input should be a valid integer"),
        ({"n": 2, "top_p": 0.5}, "n is supported only as 1; top_p is supported only as 1"),
        ({"n": True}, "n is supported only as 1"),
        ({"logprobs": 0}, "logprobs is supported only as false"),
        ({"stop": ""}, "^stop: String should have at least 1 character"),
        ({"stream_options": {"include_usage": True}}, "stream_options needs stream: true"),
        ({"max_tokens": 8, "max_completion_tokens": 4}, "max_tokens and max_completion_tokens differ"),
    ):
        with pytest.raises(Refusal, match=says):
            parse(ChatBody, json.dumps({**asked, **changes}).encode())
    with pytest.raises(Refusal, match="Invalid JSON"):
        parse(ChatBody, b"{")


def test_feedback_survives_a_crash_in_the_middle_of_a_line(tmp_path: Path) -> None:
    given = Given("ann", [{"role": "user", "content": "Héllo?"}], "Yes.")
    assert Inbox(tmp_path).rate(given, good=True)
    path = tmp_path / "ann" / THUMBS
    whole = path.read_text()
    with path.open("a") as file:
        file.write('{"id": "cut o')
    again = Inbox(tmp_path)
    assert not again.rate(given, good=True)
    assert path.read_text() == whole
    assert again.rate(given, good=False)
    assert [json.loads(line)["label"] for line in path.read_text().splitlines()] == [True, False]


def test_feedback_with_characters_that_end_a_line_elsewhere_is_read_back(tmp_path: Path) -> None:
    given = Given("ann", [{"role": "user", "content": "One\u2028two\u2029three?"}], "Yes.\u0085")
    assert Inbox(tmp_path).rate(given, good=True)
    again = Inbox(tmp_path)
    assert not again.rate(given, good=True)
    assert again.rate(given, good=False)


def test_a_log_or_a_feedback_folder_that_cannot_be_written_is_named_before_a_model_is_loaded(
    sft_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for feedback in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(WorkbenchError, match="is a file") as caught:
            serve([str(sft_run)], ServeOptions(log=tmp_path, feedback=feedback))
        assert "is a folder" in str(caught.value)
    for log in (tmp_path / "file" / "x" / "log", Path("/proc/x/y")):
        with pytest.raises(WorkbenchError, match="cannot be written"):
            serve([str(sft_run)], ServeOptions(log=log))


def test_streamed_text_is_never_taken_back() -> None:
    answer = Answer("id", "m", chat=True)
    pieces = [answer.take({"keep": 0, "add": "Hel"}), answer.take({"keep": 2, "add": "y"})]
    pieces.append(answer.take({"text": "Hello", "ended": True}))
    assert pieces == ["Hel", "", "lo"]
    with pytest.raises(Refusal, match="ask again without stream"):
        answer.take({"text": "Other", "ended": True})


def test_the_vllm_command_names_base_adapter_template_and_no_key(
    sft_run: Path, reward_run: Path, tmp_path: Path
) -> None:
    words = vllm_command([locate(sft_run)], ["sft"], "127.0.0.1", 8000)
    adapter = sft_run / "adapter"
    base = words[2]
    assert (Path(base) / "config.json").is_file()
    assert words == [
        *("vllm", "serve", base, "--host", "127.0.0.1", "--port", "8000", "--tokenizer", str(adapter)),
        *("--chat-template", str(adapter / "chat_template.jinja"), "--quantization", "bitsandbytes"),
        *("--enable-lora", "--max-loras", "1", "--max-lora-rank", "8", "--lora-modules", f"sft={adapter}"),
    ]
    assert (adapter / "chat_template.jinja").is_file()
    keys = Keys(key_file(tmp_path / "keys", f"ann {KEY}\n"))
    assert vllm_environment(keys) == {**os.environ, "VLLM_API_KEY": KEY}
    with pytest.raises(WorkbenchError, match="plain LoRA"):
        vllm_command([locate(reward_run)], ["reward"], "127.0.0.1", 8000)


def test_models_have_the_names_of_their_folders(sft_run: Path, reward_run: Path) -> None:
    models = models_of(check_runs([str(sft_run), str(reward_run)]))
    assert [(model.name, model.kind) for model in models.values()] == [("sft", "policy"), ("reward", "reward")]
    with pytest.raises(WorkbenchError, match="named twice"):
        models_of(check_runs([str(sft_run), str(sft_run)]))
