"""Data sets with one kind of planted defect, for `benchmarks.doctor_defects`."""

import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.made_data import (
    PEOPLE,
    THINGS,
    VERBS,
    Made,
    Row,
    clean,
    clean_row,
    field_as,
    foreign_text,
    in_text,
    line_as,
    listed,
    question,
    rows_with,
    sentence,
    some,
    text,
)
from workbench.validate.reading import Purpose


def _cut_json(draw: random.Random, row: Row) -> bytes:
    line = json.dumps(row).encode()
    return line[: draw.randrange(5, len(line) - 2)]


def _twice(draw: random.Random, row: Row) -> bytes:
    name = draw.choice(list(row))
    return json.dumps(row).encode()[:-1] + f", {json.dumps(name)}: {json.dumps(sentence(draw))}}}".encode()


def _half(draw: random.Random, row: Row) -> bytes:
    name = draw.choice(list(row))
    return json.dumps({**row, name: row[name] + " " + chr(draw.randrange(0xD800, 0xDFFF))}).encode()


def _conversation(draw: random.Random, row: Row) -> Row:
    return {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}]}


def conversations(
    draw: random.Random, made: Made, kind: str, change: Callable[[random.Random, list[Row]], Any]
) -> None:
    """A file of conversations, some of them changed."""
    made.files[0] = [_conversation(draw, row) for row in made.files[0]]
    rows_with(kind, lambda draw, row: {"messages": change(draw, row["messages"])}, draw, made)


def _wrong_role(draw: random.Random, turns: list[Row]) -> Any:
    options = [
        [{**turns[0], "role": "narrator"}, turns[1]],
        [turns[0]],
        [turns[0], {**turns[1], "role": "writer"}],
    ]
    return draw.choice(options)


def _tool(draw: random.Random, turns: list[Row]) -> Any:
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "search", "arguments": "{}"}]}
    return draw.choice(
        [
            [turns[0], call, {"role": "tool", "content": "42"}, turns[1]],
            [turns[0], {**turns[1], "tool_calls": [{"name": "x"}]}],
        ]
    )


def ids_conflict(draw: random.Random, made: Made) -> None:
    """Two records share an id; the reader names the later one."""
    for number, row in enumerate(made.files[0]):
        row["id"] = f"row-{number}"
    first, second = sorted(draw.sample(range(1, len(made.files[0])), 2))
    made.files[0][second]["id"] = made.files[0][first]["id"]
    made.planted["id-conflict"].add((0, second))


def duplicates(draw: random.Random, made: Made) -> None:
    """Copies of earlier rows at the end."""
    for line in some(draw, made):
        made.planted["exact-duplicate"].add((0, len(made.files[0])))
        made.files[0].append(dict(made.files[0][line]))


def near(draw: random.Random, row: Row) -> Row:
    """The row with one word of its longest text in other case, and another digit."""
    name = max(row, key=lambda key: len(str(row[key])))
    words = row[name].split(" ")
    at = draw.randrange(len(words))
    words[at] = words[at].upper() + draw.choice(["", "!", "?"]) if words[at].upper() != words[at] else words[at] + "!"
    return {**row, name: " ".join(words)}


def near_duplicates(draw: random.Random, made: Made) -> None:
    """Nearly copies of earlier rows at the end."""
    for line in some(draw, made):
        made.planted["near-duplicate"].add((0, len(made.files[0])))
        made.files[0].append(near(draw, dict(made.files[0][line])))


def leak(kind: str, draw: random.Random, made: Made) -> None:
    """Rows of the first file that are also in the second, whole or in part."""
    for line in some(draw, made):
        row = dict(made.files[0][line])
        if kind == "leaked-prompt":
            row["response"] = f"{sentence(draw)} {sentence(draw)}"
        made.files[1].append(near(draw, row) if kind == "leaked-near" else row)
        made.planted[kind].add((0, line))


def opposite(draw: random.Random, made: Made) -> None:
    """Rows that say the opposite of an earlier one."""
    for line in some(draw, made):
        row = dict(made.files[0][line])
        turned = (
            {**row, "label": "praise" if row["label"] == "blame" else "blame"}
            if "label" in row
            else {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
        )
        made.planted["contradiction"] |= {(0, line), (0, len(made.files[0]))}
        made.files[0].append(turned)


def cycle(draw: random.Random, made: Made) -> None:
    """Three answers to one prompt in a circle."""
    for _ in range(draw.randint(1, 3)):
        prompt, answers = question(draw), [sentence(draw) for _ in range(3)]
        for better in range(3):
            made.planted["preference-cycle"].add((0, len(made.files[0])))
            made.files[0].append({"prompt": prompt, "chosen": answers[better], "rejected": answers[(better + 1) % 3]})


def long_answers(draw: random.Random, made: Made) -> None:
    """Pairs whose better answer is mostly the longer one."""
    for line, row in enumerate(made.files[0]):
        if draw.random() < 0.85:
            made.files[0][line] = {**row, "chosen": f"{row['chosen']} {sentence(draw)}"}
    made.planted["length-bias"].add((0, -1))


def first_side(draw: random.Random, made: Made) -> None:
    """Judgements that prefer the first answer."""
    for line, row in enumerate(made.files[0]):
        side = "a" if draw.random() < 0.85 else "b"
        # The winner stays the longer answer in every second row: no bias for length comes with it.
        answers = (row["chosen"], row["rejected"]) if side == "a" else (row["rejected"], row["chosen"])
        pair = dict(zip(("response_a", "response_b"), answers, strict=True))
        made.files[0][line] = {"prompt": row["prompt"], **pair, "winner": side}
    made.planted["position-bias"].add((0, -1))


def noise(draw: random.Random, made: Made) -> None:
    """Each pair is judged by two people who often disagree."""
    rows: list[Row | bytes] = []
    for line, row in enumerate(made.files[0]):
        side = draw.choice("ab")
        other = side if draw.random() < 0.25 else "ba"["ab".index(side)]
        compared = {"prompt": row["prompt"], "response_a": row["chosen"], "response_b": row["rejected"]}
        rows += [{**compared, "winner": side, "annotator": "ann"}, {**compared, "winner": other, "annotator": "bob"}]
        if side != other:
            made.planted["contradiction"] |= {(0, 2 * line), (0, 2 * line + 1)}
        else:
            made.planted["exact-duplicate"].add((0, 2 * line + 1))
    made.files[0] = rows
    made.planted["noisy-labels"].add((0, -1))


def spelling(draw: random.Random, made: Made) -> None:
    """A label in two spellings."""
    other = draw.choice(["Praise", "PRAISE", "pRaise"])
    lines = [line for line, row in enumerate(made.files[0]) if row["label"] == "praise"]
    for line in draw.sample(lines, 10):
        made.files[0][line]["label"] = other
    made.planted["label-variants"].add((0, -1))


def rare(draw: random.Random, made: Made) -> None:
    """A third label with few texts of words of its own."""
    for line in draw.sample(range(1, len(made.files[0])), draw.randint(1, 4)):
        made.files[0][line] = {"text": f"{sentence(draw)} Nobody knows, perhaps, maybe, undecided.", "label": "unsure"}
    made.planted["rare-label"].add((0, -1))


def unbalanced(draw: random.Random, made: Made) -> None:
    """Most texts have one label."""
    lines = [line for line, row in enumerate(made.files[0]) if row["label"] == "blame"]
    for line in lines[5:]:
        made.files[0][line] = {"text": text(draw, "praise"), "label": "praise"}
    made.planted["imbalance"].add((0, -1))


def one_label(draw: random.Random, made: Made) -> None:
    """Only one label."""
    made.files[0] = [{"text": text(draw, "praise"), "label": "praise"} for _ in made.files[0]]
    made.planted["single-label"].add((0, -1))


def wrong_labels(draw: random.Random, made: Made) -> None:
    """Some labels of a larger file are turned."""
    made.files[0] += [clean_row(draw, "classify", number) for number in range(100)]
    for line in some(draw, made):
        row = made.files[0][line]
        row["label"] = "praise" if row["label"] == "blame" else "blame"
        made.planted["label-error"].add((0, line))


def told_by_length(draw: random.Random, made: Made) -> None:
    """Texts of one label are much longer."""
    for line, row in enumerate(made.files[0]):
        if row["label"] == "praise":
            made.files[0][line] = {**row, "text": f"{sentence(draw)} {row['text']}"}
    made.planted["length-bias"].add((0, -1))


def latin(draw: random.Random, made: Made) -> None:
    """A file in Latin-1."""
    for line in range(len(made.files[0])):
        row = {**made.files[0][line], "response": f"Le café était fermé à midi. {sentence(draw)}"}
        made.files[0][line] = json.dumps(row, ensure_ascii=False).encode("cp1252")
    made.planted["encoding"].add((0, -1))


def small_words(draw: random.Random, made: Made, kind: str) -> None:
    """Texts of the embedded default's words, some too long for it or with characters that it lacks."""
    known = listed("How long is the guarantee on chairs? We take lamps back for 14 days. We are glad to help.")
    for line in range(len(made.files[0])):
        order = [draw.choice(known) for _ in range(14)]
        made.files[0][line] = {"prompt": " ".join(order[:5]), "response": " ".join(order[5:]) + " Thanks."}
    for line in some(draw, made):
        row = made.files[0][line]
        extra = " ".join(draw.choice(known) for _ in range(400)) if kind == "too-long" else draw.choice("ΩЖ漢ßłñ€")
        made.files[0][line] = {**row, "response": f"{row['response']} {extra}"}
        made.planted[kind].add((0, line))


def _mojibake(draw: random.Random) -> str:
    word = draw.choice(["café", "naïve", "Müller", "“quoted”", "it’s", "señor", "Čapek", "100 €"])
    return word.encode("utf-8").decode("cp1252", errors="ignore")


def _loop(draw: random.Random, row: Row) -> str:
    return " ".join([f"{draw.choice(PEOPLE)} {draw.choice(VERBS)} the {draw.choice(THINGS)}."] * draw.randint(10, 20))


def _padded(draw: random.Random, row: Row) -> str:
    return draw.choice(
        [f"{row['response']}\n\n", f"  {row['response']}", f"{row['response']} ", f"\t{row['response']}"]
    )


def _truncated(draw: random.Random, row: Row) -> str:
    words = f"{row['response']} {sentence(draw)}"[:-1].split(" ")
    return " ".join(words[: draw.randint(len(words) - 6, len(words) - 1)]).rstrip(",.") + " and"


REFUSALS = (
    "I'm sorry, but I cannot help with that request. ",
    "As an AI language model, I do not have opinions on this. ",
    "I cannot assist with this question. ",
    "I am unable to answer this because I cannot see the harbour. ",
)
DEFECTS: dict[str, tuple[Purpose, Callable[[random.Random, Made], None]]] = {
    "broken-row": ("sft", line_as("broken-row", _cut_json)),
    "duplicate-key": ("reward", line_as("duplicate-key", _twice)),
    "bad-bytes": ("sft", lambda draw, made: among_accents(draw, made)),
    "half-character": ("reward", line_as("half-character", _half)),
    "encoding": ("sft", latin),
    "mixed-forms": ("sft", partial(rows_with, "mixed-forms", _conversation)),
    "missing-column": ("sft", field_as("missing-column", response=lambda draw, row: None)),
    "wrong-type": (
        "sft",
        field_as("wrong-type", response=lambda draw, row: draw.choice([17, 3.5, True, {"a": 1}.copy() and 4])),
    ),
    "wrong-role": ("sft", lambda draw, made: conversations(draw, made, "wrong-role", _wrong_role)),
    "tool-call": ("sft", lambda draw, made: conversations(draw, made, "tool-call", _tool)),
    "empty-text": ("sft", field_as("empty-text", response=lambda draw, row: draw.choice(["", "   ", "\n"]))),
    "same-answers": ("reward", field_as("same-answers", rejected=lambda draw, row: row["chosen"])),
    "no-judgement": ("reward", lambda draw, made: nobody(draw, made)),
    "id-conflict": ("sft", ids_conflict),
    "speaker-mark": (
        "sft",
        field_as("speaker-mark", response=lambda draw, row: f"{row['response']}\nUser: {question(draw)}"),
    ),
    "prompt-repeated": (
        "sft",
        field_as("prompt-repeated", response=lambda draw, row: f"{row['prompt']} {row['response']}"),
    ),
    "special-token": (
        "sft",
        in_text(
            "special-token",
            "response",
            lambda draw: draw.choice(["</s>", "<|endoftext|>", "<|eot_id|>", "<<SYS>>", "[INST]"]),
        ),
    ),
    "html": (
        "sft",
        in_text(
            "html",
            "response",
            lambda draw: draw.choice(["<br>", "&amp;", "<p>", "&nbsp;", "&#39;", "</div>", '<a href="x">']),
        ),
    ),
    "mojibake": ("sft", in_text("mojibake", "response", _mojibake)),
    "replacement-character": ("reward", in_text("replacement-character", "chosen", lambda draw: "caf\ufffd")),
    "control-character": (
        "sft",
        in_text("control-character", "response", lambda draw: draw.choice("\x00\x07\x1b\x7f\x92\u200b\u202e\ufeff")),
    ),
    "outer-whitespace": ("sft", field_as("outer-whitespace", response=_padded)),
    "repetition": ("sft", field_as("repetition", response=_loop)),
    "placeholder": (
        "sft",
        field_as(
            "placeholder",
            response=lambda draw, row: draw.choice(
                ["N/A", "TODO", "<nooutput>", "...", "None", "[Your answer here]", "lorem ipsum dolor sit amet"]
            ),
        ),
    ),
    "echo": ("sft", field_as("echo", response=lambda draw, row: row["prompt"])),
    "cut-off": ("sft", field_as("cut-off", response=_truncated)),
    "refusal": ("sft", field_as("refusal", response=lambda draw, row: draw.choice(REFUSALS) + row["response"])),
    "other-language": (
        "ppo",
        field_as("other-language", prompt=lambda draw, row: foreign_text(draw)),
    ),
    "too-long": ("sft", partial(small_words, kind="too-long")),
    "unknown-characters": ("sft", partial(small_words, kind="unknown-characters")),
    "exact-duplicate": ("sft", duplicates),
    "near-duplicate": ("classify", near_duplicates),
    "leaked-row": ("reward", partial(leak, "leaked-row")),
    "leaked-prompt": ("sft", partial(leak, "leaked-prompt")),
    "leaked-near": ("classify", partial(leak, "leaked-near")),
    "contradiction": ("reward", opposite),
    "preference-cycle": ("reward", cycle),
    "length-bias": ("reward", long_answers),
    "position-bias": ("reward", first_side),
    "noisy-labels": ("reward", noise),
    "label-variants": ("classify", spelling),
    "rare-label": ("classify", rare),
    "imbalance": ("classify", unbalanced),
    "single-label": ("classify", one_label),
    "label-error": ("classify", wrong_labels),
    "label-in-text": (
        "classify",
        field_as("label-in-text", text=lambda draw, row: f"{row['text']} (label: {row['label']})"),
    ),
}


def among_accents(draw: random.Random, made: Made) -> None:
    """Broken bytes in a file that is UTF-8 elsewhere."""
    for line, row in enumerate(made.files[0]):
        row = {**row, "response": f"Le café était fermé. {sentence(draw)}"}
        made.files[0][line] = json.dumps(row, ensure_ascii=False).encode()
    for line in some(draw, made):
        raw = made.files[0][line]
        assert isinstance(raw, bytes)
        at = draw.randrange(len(raw) - 60, len(raw) - 20)
        made.files[0][line] = raw[:at] + draw.choice([b"\xff", b"\xc3", b"\xe2\x82", b"\x80"]) + b" " + raw[at:]
        made.planted["bad-bytes"].add((0, line))


def nobody(draw: random.Random, made: Made) -> None:
    """Two answers and a verdict that names neither."""
    for line, row in enumerate(made.files[0]):
        side = "ab"[line // 2 % 2]
        made.files[0][line] = {
            "prompt": row["prompt"],
            "response_a": row["chosen"],
            "response_b": row["rejected"],
            "winner": side,
        }
    rows_with(
        "no-judgement", lambda draw, row: {**row, "winner": draw.choice(["somebody", "unclear", "C", "?"])}, draw, made
    )


def make(kind: str, *, seed: int, rows: int) -> Made:
    """A data set with one kind of defect, or `clean`; the purpose of a clean one changes with the seed."""
    draw = random.Random(f"{kind}-{seed}")
    if kind == "clean":
        purposes: list[Purpose] = ["sft", "reward", "classify", "ppo", "annotate"]
        return clean(draw, purposes[seed % 5], rows, splits=1 + seed % 2)
    purpose, plant = DEFECTS[kind]
    made = clean(draw, purpose, rows, splits=2 if kind.startswith("leaked") else 1)
    plant(draw, made)
    return made
