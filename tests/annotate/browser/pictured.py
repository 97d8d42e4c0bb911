"""What `pictures` shows: invented questions and answers."""
# ruff: noqa: E501

import html
import random

from tests.annotate.conftest import make_item
from workbench.data.records import Item, Message, Response

ANSWERS = {
    "How do I get red wine out of a wool carpet?": [
        "Dab it with a cloth, do not rub. Then cold water with a little soap.",
        "1. Dab up what you can with a dry cloth, from the edge inwards.\n2. Pour on a little cold water and dab again.\n3. Wool takes no bleach: use a drop of mild soap, and let it dry.",
    ],
    "And if the stain is already dry?": [
        "Then use hot water and a hard brush.",
        "Moisten it with *cold* water for ten minutes, then go on as with a fresh stain. What is left after two rounds is for a cleaner who knows wool.",
    ],
}
"""Questions of the arena, and what each run answers."""
_ASKED = (
    ("Can I return shoes that I have worn once?", "Worn shoes cannot be returned, unless they are faulty: then for two years.", "Yes, you can return everything at any time, no questions asked."),
    ("How long does delivery abroad take, and what does it cost?", "Nine days, 12 euros. Above 80 euros it is free.", "Delivery abroad is fast. We deliver to many countries!"),
    ("My parcel says delivered, but it is not here. What now?", "Ask your neighbours first. If nobody has it, tell us within seven days and we send another.", "That is strange. Please wait a few weeks."),
    ("Do you repair chairs that you did not sell?", "Yes, if they are of wood. We look at them for free and then name a price.", "We sell chairs, tables and lamps in two shops."),
    ("Which lamp is bright enough for a desk?", "One with 450 lumens or more, and warm white if you work in the evening.", "All our lamps are bright. The green one sells best."),
    ("How do I change the address of an order?", "Until it is packed, under *My orders*. After that, call the carrier with the parcel number.", "You cannot change anything after you have paid."),
)  # fmt: skip


def is_right(text: str) -> bool:
    """Whether an answer of `help_desk` is the better one."""
    return any(text == right for _, right, _ in _ASKED)


def help_desk(count: int) -> list[Item]:
    """Questions, each with a better and a worse answer."""
    items = []
    for number in range(count):
        asked, right, wrong = _ASKED[number % len(_ASKED)]
        greeting = ("", "Hello. ", "Good day! ", "Quick question. ")[number // len(_ASKED) % 4]
        about = f" (order {4100 + number})" if number >= 4 * len(_ASKED) else ""
        prompt = [{"role": "user", "content": greeting + asked + about}]
        answers = (right, wrong) if number % 2 else (wrong, right)
        items.append(make_item(f"h{number}", *answers, prompt=prompt, priority=-float(number)))
    return items


def four() -> Item:
    asked, right, wrong = _ASKED[1]
    more = ("It depends on the country.", "About a week, I think. Delivery may cost something, please see our terms.")
    answers = tuple(Response(id=str(n), text=text) for n, text in enumerate((wrong, more[1], right, more[0])))
    return make_item("four", prompt=[{"role": "user", "content": asked}], responses=answers)


def _essay(words: dict[str, str]) -> str:
    """About 3,000 words on the history of bread."""
    draw = random.Random(1)
    who = ("Bakers", "Millers", "Farmers", "The towns", "Monasteries", "Merchants")
    did = (
        "kept the grain dry",
        "paid for the ovens",
        "fixed the price of a loaf",
        "ground rye and wheat apart",
        "sold the bran",
    )
    why = (
        "because a wet harvest spoiled it",
        "although the tax had risen",
        "so that nobody went hungry in spring",
        "as the guild had decided",
        "until the roads were better",
    )
    parts = []
    for number, title in enumerate(
        ("Grain", "Mills", "Ovens", "Guilds", "Prices", "Yeast", "Cities", "Machines", "Today"), 1
    ):
        lines = [f"{draw.choice(who)} {draw.choice(did)} {draw.choice(why)}." for _ in range(27)]
        parts.append(f"## {number}. {title}\n\n" + "\n\n".join(" ".join(lines[at : at + 9]) for at in (0, 9, 18)))
    before, heading, text = "\n\n".join(parts).partition("## 3")
    for old, new in words.items():
        text = text.replace(old, new, 1)
    return before + heading + text


def long_pair() -> Item:
    prompt = [{"role": "user", "content": "Write a long essay on the history of bread, with headings."}]
    first = _essay({})
    second = _essay({"a wet harvest spoiled it": "mice came in winter", "the tax had risen": "the king forbade it", "rye and wheat apart": "rye and barley together"})  # fmt: skip
    return make_item("long", first, second, prompt=prompt)


def conversation() -> Item:
    """Twelve turns."""
    said = (
        "I want to grow tomatoes on my balcony. Where do I begin?", "With the light: they need six hours of sun. Which way does the balcony face?",
        "South-west, from noon until the evening.", "That is enough. Take pots of 20 litres or more, with holes.",
        "Which kind is easiest?", "A bush tomato: it stays below a metre and needs no pruning.",
        "When do I plant them?", "After the last frost. Indoors you can sow eight weeks before.",
        "How often should I water?", "When the soil is dry two centimetres down: in July that may be every day.",
        "The lowest leaves turn yellow. Is that bad?",
    )  # fmt: skip
    prompt = tuple(Message(role=("user", "assistant")[at % 2], content=text) for at, text in enumerate(said))
    first = "A few at the bottom are normal: the plant gives up its oldest leaves. **Remove them.** If it goes on upwards, the plant lacks nitrogen: feed it once a week with a tomato fertiliser."
    second = "Yellow leaves mean that you water too much. Stop watering for two weeks."
    return make_item("talk", first, second).model_copy(update={"prompt": prompt})


def wide_table() -> Item:
    names = ("Model", "Parameters", "Layers", "Hidden size", "Heads", "Context", "Vocabulary", "Tokens seen", "Licence")
    rows = (
        ("Llama 2 7B", "6,738,415,616", "32", "4,096", "32", "4,096", "32,000", "2,000 billion", "Llama 2 Community"),
        ("Mistral 7B", "7,241,732,096", "32", "4,096", "32", "8,192", "32,000", "not published", "Apache 2.0"),
        ("Pythia 6.9B", "6,857,302,016", "32", "4,096", "32", "2,048", "50,432", "300 billion", "Apache 2.0"),
    )
    lines = ["| " + " | ".join(cells) + " |" for cells in (names, ["---"] * 9, *rows)]
    code = 'Sorted by size:\n\n```python\nimport csv\n\ndef largest(path: str, count: int = 3) -> list[dict[str, str]]:\n    """The rows with the most parameters."""\n    with open(path, newline="", encoding="utf-8") as file:\n        rows = sorted(csv.DictReader(file), key=lambda row: -int(row["Parameters"].replace(",", "")))\n    return rows[:count]  # the largest first\n```\n'
    prompt = [{"role": "user", "content": "Compare three open models of about seven billion parameters in a table."}]
    return make_item(
        "table", "Here they are:\n\n" + "\n".join(lines) + "\n\nAll three run on one GPU.", code, prompt=prompt
    )


def math() -> Item:
    code = '```python\ndef area(radius: float) -> float:\n    """The area of a circle."""\n    if radius < 0:\n        raise ValueError("no circle has a negative radius")\n    return 3.14159 * radius ** 2\n```\n\nCall `area(2)`.'
    text = "The area between a circle and its axis is\n\n$$\n\\int_{-r}^{r} \\sqrt{r^2 - x^2}\\,dx = \\frac{\\pi r^2}{2}\n$$\n\nand twice that is $\\pi r^2$, so the circle has **four times** the area."
    prompt = [{"role": "user", "content": "Why is the area of a circle π r², and how do I compute it in Python?"}]
    return make_item("math", code, text, prompt=prompt)


def notebook(cell: str, port: int) -> str:
    """A cell and its output, drawn as notebooks draw them."""
    style = "body{margin:20px 24px;font:14px system-ui}pre{margin:0 0 10px 70px;padding:10px;background:#f7f7f7;border:1px solid #e0e0e0;font:13px monospace}b{position:absolute;color:#307fc1;font:13px monospace;padding-top:11px}iframe{margin-left:70px;border:0;width:1160px;height:540px}"
    frame = f'<iframe src="http://127.0.0.1:{port}/"></iframe>'
    return f"<!doctype html><meta charset=utf-8><style>{style}</style><b>In [1]:</b><pre>{html.escape(cell.strip())}</pre>{frame}"
