"""Generated data sets without a defect, and ways to spoil rows of them, for `benchmarks.defects`."""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from workbench.validate.reading import Purpose


def listed(text: str, separator: str | None = None) -> list[str]:
    """The words of a text."""
    return text.split(separator)


SUBJECTS = listed("harbour garden library kitchen railway orchard museum bakery lighthouse workshop theatre market")
PEOPLE = listed("gardener captain teacher baker painter sailor nurse farmer engineer musician carpenter pilot")
VERBS = listed("repairs visits studies opens cleans describes measures remembers protects designs paints watches")
THINGS = listed("windows bridges engines letters flowers maps clocks boats tables lanterns fences roofs")
TIMES = listed("in spring|on Mondays|before noon|after the storm|during winter|every evening|at dawn|once a year", "|")
GOOD = listed("wonderful excellent pleasant superb charming lovely brilliant kind")
BAD = listed("terrible dreadful awful broken horrible miserable useless rotten")
FOREIGN = (
    (
        (
            "Der alte Kapitän repariert",
            "Die junge Ärztin verkauft",
            "Unser neuer Nachbar sucht",
            "Ein müder Lehrer zählt",
        ),
        ("jeden Morgen die Fenster am Hafen", "seit Wochen seine Fahrräder", "heute Abend die Bücher im Keller"),
        ("und schreibt danach einen Brief an seine Tochter.", "weil der Winter bald über das Tal kommt."),
    ),
    (
        ("La vieille boulangère ouvre", "Notre voisin répare", "Un jeune facteur oublie", "Le professeur cherche"),
        ("chaque matin les portes du village", "depuis hier les vélos de ses enfants", "ce soir les lettres du maire"),
        ("et les clients attendent devant la fontaine.", "parce que la pluie tombe toujours en novembre."),
    ),
    (
        ("El panadero limpia", "La vecina mayor pinta", "Mi primo pequeño guarda", "El médico del pueblo compra"),
        ("con cuidado las mesas de la cocina", "desde ayer las puertas azules", "todos los jueves cartas antiguas"),
        ("antes de que lleguen los clientes.", "porque mañana empieza la fiesta grande."),
    ),
)
"""Parts of German, French and Spanish sentences."""
Row = dict[str, Any]


@dataclass
class Made:
    """A generated data set and what is wrong with it."""

    purpose: Purpose
    files: list[list[Row | bytes]]
    """Rows of each file; bytes are a line as it is written."""
    planted: dict[str, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))
    """Kind → (file, line) of the rows, both from 0; a whole file is line −1."""


def sentence(draw: random.Random) -> str:
    """One of some 400,000 sentences."""
    return (
        f"The {draw.choice(PEOPLE)} from the {draw.choice(SUBJECTS)} {draw.choice(VERBS)} {draw.randint(2, 99)} old "
        f"{draw.choice(THINGS)} {draw.choice(TIMES)}, while the {draw.choice(PEOPLE)} {draw.choice(VERBS)} "
        f"the {draw.choice(THINGS)} near the {draw.choice(SUBJECTS)} {draw.choice(TIMES)}."
    )


def foreign_text(draw: random.Random) -> str:
    """Two sentences in one other language."""
    parts = draw.choice(FOREIGN)
    return " ".join(draw.choice(part) for _ in range(2) for part in parts)


def question(draw: random.Random) -> str:
    """A question."""
    return f"Who {draw.choice(VERBS)} the {draw.choice(THINGS)} of the {draw.choice(SUBJECTS)}? {sentence(draw)}"


def text(draw: random.Random, label: str) -> str:
    """A text whose words tell its label."""
    judged = GOOD if label == "praise" else BAD
    return f"{sentence(draw)} That was {', '.join(draw.sample(judged, 7))}."


def clean_row(draw: random.Random, purpose: Purpose, number: int) -> Row:
    """A row without a defect."""
    if purpose == "classify":
        label = "praise" if number % 2 else "blame"
        return {"text": text(draw, label), "label": label}
    row: Row = {"prompt": question(draw)}
    if purpose == "sft":
        row["response"] = f"{sentence(draw)} {sentence(draw)}"
    if purpose in ("reward", "annotate"):
        answers = [sentence(draw), sentence(draw)]
        shorter, longer = sorted(answers, key=len)
        names = ("chosen", "rejected") if purpose == "reward" else ("response_a", "response_b")
        row |= dict(zip(names, (longer, shorter) if number % 2 else (shorter, longer), strict=True))
    return row


def clean(draw: random.Random, purpose: Purpose, rows: int, *, splits: int) -> Made:
    """Files whose rows differ from one another."""
    return Made(purpose, [[clean_row(draw, purpose, number) for number in range(rows)] for _ in range(splits)])


def some(draw: random.Random, made: Made, *, most: int = 6, file: int = 0) -> list[int]:
    """Lines to spoil, never the first: it decides the form of the file."""
    return sorted(draw.sample(range(1, len(made.files[file])), draw.randint(1, most)))


def rows_with(kind: str, change: Callable[[random.Random, Row], Row | bytes], draw: random.Random, made: Made) -> None:
    """Spoil some rows."""
    for line in some(draw, made):
        made.files[0][line] = change(draw, dict(made.files[0][line]))
        made.planted[kind].add((0, line))


def in_text(kind: str, name: str, piece: Callable[[random.Random], str]) -> Callable[[random.Random, Made], None]:
    """A piece of text in the middle of a field."""

    def change(draw: random.Random, row: Row) -> Row:
        words = row[name].split(" ")
        at = draw.randrange(1, len(words))
        return {**row, name: " ".join([*words[:at], piece(draw), *words[at:]])}

    return partial(rows_with, kind, change)


def field_as(kind: str, **makers: Callable[[random.Random, Row], Any]) -> Callable[[random.Random, Made], None]:
    """Other values in fields; None removes the field."""

    def change(draw: random.Random, row: Row) -> Row:
        values = {name: maker(draw, row) for name, maker in makers.items()}
        return {name: value for name, value in {**row, **values}.items() if value is not None}

    return partial(rows_with, kind, change)


def line_as(kind: str, change: Callable[[random.Random, Row], bytes]) -> Callable[[random.Random, Made], None]:
    """Another line of bytes."""
    return partial(rows_with, kind, change)
