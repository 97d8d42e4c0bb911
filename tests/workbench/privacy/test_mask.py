"""Masks: one token per value, no value in clear, and restored with the key only."""

import json
import stat

import pytest

from workbench.data.labelled import Columns, read_labelled
from workbench.data.readers import read_demonstrations, read_items
from workbench.data.rules import RowRules
from workbench.privacy.audit import add_to_audit, unmask_file
from workbench.privacy.find import KINDS, TOKEN, find
from workbench.privacy.keys import ENVIRONMENT, key_id, read_key, read_or_make_key
from workbench.privacy.mask import Masker, Sealer, normalised
from workbench.run.errors import WorkbenchError

pytest.importorskip("presidio_analyzer")
pytest.importorskip("faker")
KEY = bytes(range(32))
VALUES = {
    "email": ("ann.lee@example.org", "root@mail.local"),
    "phone": ("+49 30 901820", "(415) 555-2671"),
    "iban": ("DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"),
    "card": ("4111 1111 1111 1111", "5555555555554444", "2223 0031 2200 3222"),
    "ip": ("192.168.1.5", "2001:db8::1"),
    "name": ("Peter Parker", "Anna van der Berg"),
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind in KINDS for value in VALUES[kind]])
def test_a_value_is_found_and_nothing_else_is(kind, value):
    text = f"Please write this down now: {value}, and then go on."
    spans = find(text)
    assert [(text[span.start : span.end], span.kind) for span in spans] == [(value, kind)]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("My name is Xu Qzwy and I ask.", "Xu Qzwy"),
        ("Dear Mr. Xyloph, thank you", "Xyloph"),
        ("Hello Zorblat,\nhow are you?", "Zorblat"),
        ("See you soon.\n\nBest wishes,\nZorblat Quux", "Zorblat Quux"),
        ("a dog named Zorblat ran", "Zorblat"),
        ("I told Peter Quux's cousin", "Peter Quux"),
    ],
)
def test_a_frame_shows_an_unknown_name(text, name):
    assert [text[span.start : span.end] for span in find(text, ["name"])] == [name]


@pytest.mark.parametrize(
    "text",
    [
        "Dear Customer, the card 4111 1111 1111 1112 and DE89 3704 0044 0532 0130 03 have wrong check digits.",
        "On 2023-10-12 at 12:30:05 it was 0.123456789, about 1,234,567,890 of 89999 in :: and std::vector.",
        "It has 16922 rows, 1680 columns, and 12345 more.",
        "New York and Los Angeles are far from here. I told Mark I'm Happy.",
        "masked before: [EMAIL_3f9c02a1b7] and [NAME_0123456789]",
    ],
)
def test_look_alikes_stay(text):
    assert Masker(KINDS, KEY).mask(text) == (text, [])


def test_one_value_has_one_token_under_one_key_in_any_spelling():
    text = "Pay DE89370400440532013000 or DE89 3704 0044 0532 0130 00; ask ANN@example.org or ann@example.org."
    masked, findings = Masker(["iban", "email"], KEY).mask(text)
    assert [finding.token for finding in findings[:2]] == [findings[0].token] * 2
    assert [finding.token for finding in findings[2:]] == [findings[2].token] * 2
    assert len(TOKEN.findall(masked)) == 4
    assert "ann" not in masked.lower()
    assert Masker(["email"], KEY).mask("ann@example.org")[0] == findings[2].token
    assert Masker(["email"], bytes(32)).mask("ann@example.org")[0] != findings[2].token
    assert normalised("phone", "+49 (30) 90-18 20") == "+4930901820"


def test_only_the_kinds_that_are_asked_for():
    text = "Anna Smith, ann@example.org, 192.168.1.5"
    masked, findings = Masker(["ip"], KEY).mask(text)
    assert masked.startswith("Anna Smith, ann@example.org, [IP_")
    assert [finding.kind for finding in findings] == ["ip"]
    with pytest.raises(WorkbenchError, match="did you mean 'email'"):
        Masker(["emal"], KEY)


def test_a_sealed_value_opens_with_its_key_and_token_only():
    sealed = Sealer(KEY).seal("[IP_0000000000]", "10.0.0.1")
    assert "10.0.0.1" not in sealed
    assert Sealer(KEY).open("[IP_0000000000]", sealed) == "10.0.0.1"
    for other, token in ((bytes(32), "[IP_0000000000]"), (KEY, "[IP_0000000001]")):
        with pytest.raises(WorkbenchError, match="cannot be restored"):
            Sealer(other).open(token, sealed)


def test_the_key_file_is_its_owners(tmp_path, monkeypatch):
    path = tmp_path / "keys" / "mask.key"
    monkeypatch.setenv(ENVIRONMENT, str(path))
    key = read_or_make_key()
    assert read_or_make_key() == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["mask.key"]
    path.chmod(0o644)
    with pytest.raises(WorkbenchError, match="chmod 600"):
        read_key(path)
    path.chmod(0o600)
    path.write_text("nonsense")
    with pytest.raises(WorkbenchError, match="is not a key file"):
        read_key(path)
    with pytest.raises(WorkbenchError, match="no such key file"):
        read_key(tmp_path / "none")


@pytest.fixture
def key_file(tmp_path, monkeypatch):
    path = tmp_path / "mask.key"
    monkeypatch.setenv(ENVIRONMENT, str(path))
    from workbench.data.masking import masker_of

    masker_of.cache_clear()
    return path


def test_readers_mask_every_text_and_the_audit_restores_it(tmp_path, key_file):
    file = tmp_path / "data.jsonl"
    rows = [
        {"id": "ann@example.org", "prompt": "I am at ann@example.org.", "response": 'Write to "ann@example.org".'},
        {"id": "b", "prompt": "Call +49 30 901820", "response": "Calling."},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = read_demonstrations(file)
    for _ in range(2):  # the second time from memory
        rules = RowRules(mask=("email", "phone"))
        records = read_demonstrations(file, rules)
        assert [entry["kind"] for entry in rules.masked] == ["email", "email", "phone"]
    assert plain[0].prompt[0].content == rows[0]["prompt"]
    assert records[0].id == "ann@example.org"
    masked = file.with_name("masked.jsonl")
    masked.write_text("".join(record.model_dump_json(exclude={"id"}) + "\n" for record in records))
    audit = tmp_path / "audit.jsonl"
    for _ in range(2):
        rules.write_masked(audit)
    assert stat.S_IMODE(audit.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    assert len(lines) == 4
    assert lines[1]["place"].endswith("line 1")
    assert lines[1]["field"] == "prompt"
    for value in ("ann@", "901820"):
        assert value not in masked.read_text()
        assert value not in audit.read_text()
    out = tmp_path / "out.jsonl"
    assert unmask_file(masked, audit, key_file, out) == (3, 0)
    assert json.loads(out.read_text().splitlines()[0])["response"] == rows[0]["response"]
    with pytest.raises(WorkbenchError, match="exists already"):
        unmask_file(masked, audit, key_file, out)


def test_another_key_is_refused(tmp_path, key_file):
    audit = tmp_path / "audit.jsonl"
    add_to_audit(audit, key_id(KEY), [])
    with pytest.raises(WorkbenchError, match="every token would change"):
        RowRules(mask=("ip",)).write_masked(audit)
    masked = tmp_path / "text.txt"
    masked.write_text("[IP_0123456789]")
    with pytest.raises(WorkbenchError, match="is the key"):
        unmask_file(masked, audit, key_file, tmp_path / "out.txt")


def test_items_and_labelled_texts_are_masked_and_labels_are_not(tmp_path, key_file):
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps({"prompt": "hi", "response_a": "I am Peter Parker", "response_b": "10.0.0.1"}) + "\n")
    (item,) = read_items(items, RowRules(mask=("ip", "name")))
    assert [TOKEN.sub("*", response.text) for response in item.responses] == ["I am *", "*"]
    texts = tmp_path / "texts.csv"
    texts.write_text("text,author\nby Peter Parker,Peter Parker\nby 10.0.0.1,Mary\n")
    read = read_labelled(texts, Columns(labels=("author",)), RowRules(mask=("ip", "name")))
    assert [record.labels for record in read.records] == [("Peter Parker",), ("Mary",)]
    assert [TOKEN.sub("*", record.text) for record in read.records] == ["by *", "by *"]


def test_a_missing_library_is_named(monkeypatch):
    from workbench.privacy import find as module

    module._recognisers.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "presidio_analyzer", None)
    with pytest.raises(WorkbenchError, match=r"pip install 'alignment-workbench\[privacy\]'"):
        Masker(["ip"], KEY)


def test_an_audit_file_with_characters_that_end_a_line_elsewhere_is_read_back(tmp_path, key_file):
    audit, masked, out = tmp_path / "audit.jsonl", tmp_path / "text.txt", tmp_path / "out.txt"
    key = read_or_make_key(key_file)
    text, findings = Masker(("ip",), key).mask("at 192.0.2.7")
    rows = [{"place": "a\u2028b\u0085.jsonl, line 1", **entry} for entry in map(vars, findings)]
    for _ in range(2):
        add_to_audit(audit, key_id(key), rows)
    assert audit.read_text(encoding="utf-8").count("\n") == 2
    masked.write_text(text)
    assert unmask_file(masked, audit, key_file, out) == (1, 0)
    assert out.read_text() == "at 192.0.2.7"
