"""Question: which personal data does masking find, what does it miss, and what does it mask without need?

Values of every kind are planted in generated sentences, between numbers, dates and words that look like them. Recall is
the share of planted values that one finding of their kind covers whole; precision the share of findings that touch a
planted value of their kind. Names are drawn from Faker's locales that the rules know, and from others. On real texts
the findings are counted; `--show N` prints some of each kind, to be judged by eye.

    python -m benchmarks.privacy [--number 300] [--texts FILE …] [--show 20]
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import phonenumbers
from faker import Faker

from benchmarks.record import RESULTS, write_result
from workbench.privacy.find import KINDS, find
from workbench.privacy.names import LOCALES
from workbench.run.partial import lines_of
from workbench.run.progress import progress

OUT = RESULTS / "privacy.json"
OTHER_LOCALES = ("da_DK", "fi_FI", "sv_SE", "cs_CZ", "ro_RO", "hu_HU", "pt_BR", "hr_HR")
REGIONS = ("US", "GB", "DE", "FR", "IN", "BR")
OTHER_REGIONS = ("NL", "PL", "ES", "TR", "JP", "ZA")
CARRIERS = (
    "Please note {value} for the file of 2024-03-17.",
    "Order 20391847 was changed at 12:45, see {value}, and costs 1,249.90 in all.",
    "I use version 2.13.0 on Windows 11. Contact: {value}",
    "On Monday we sent it to {value}; the ratio was 0.8472915.",
    "{value} is what the form says, in New York and in Berlin.",
)
NAME_FRAMES = ("My name is {value} and I need help.", "Dear {value},\nthank you.", "Best regards,\n{value}")
NAME_PLAIN = ("Yesterday {value} called about the invoice.", "The meeting with {value} was short.")


def main(argv: list[str] | None = None) -> None:
    """Measure on generated sentences, and count on real texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=300, help="planted values per row of the table")
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="JSONL of real texts")
    parser.add_argument("--show", type=int, default=0, help="print so many findings of each kind in each file")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args(argv)
    planted = {name: measured(name, arguments.number) for name in SOURCES}
    real = {path.stem: counted(path, arguments.show) for path in arguments.texts}
    write_result(arguments.out, {"planted": planted, "real": real, "settings": {"number": arguments.number}})


def measured(name: str, number: int) -> dict[str, Any]:
    """Recall and precision on sentences with one planted value each."""
    kind, make, carriers = SOURCES[name]
    draw = random.Random(name)
    hits = findings = right = 0
    for _ in range(number):
        value, carrier = make(draw), draw.choice(carriers)
        start = carrier.index("{value}")
        text, end = carrier.replace("{value}", value), start + len(value)
        spans = find(text)
        own = [span for span in spans if span.kind == kind]
        hits += any(span.start <= start and span.end >= end for span in own)
        findings += len(spans)
        right += sum(span.start < end and span.end > start for span in own)
    return {"recall": hits / number, "precision": right / findings if findings else None, "values": number}


def counted(path: Path, show: int) -> dict[str, Any]:
    """Findings per kind in a file of real texts."""
    texts = [text for line in lines_of(path.read_text(encoding="utf-8")) for text in strings(json.loads(line))]
    counts: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
    examples: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for text in progress(texts, description=path.stem, unit="text"):
        for span in find(text):
            counts[span.kind] += 1
            around = text[max(0, span.start - 30) : span.start], text[span.start : span.end], text[span.end :][:20]
            examples[span.kind].append(" ".join("{} [[{}]] {}".format(*around).split()))
    for kind, found in examples.items():
        for line in random.Random(kind).sample(found, min(show, len(found))):
            print(f"{path.stem}\t{kind}\t{line}")
    return {"texts": len(texts), "findings": dict(counts)}


def strings(value: Any) -> list[str]:
    """The texts of a row; labels and sources are no texts."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for key, one in value.items() if key not in ("label", "source") for text in strings(one)]
    return [text for one in value for text in strings(one)] if isinstance(value, list) else []


def faked(method: str, locales: tuple[str, ...] = ("en_US", "en_GB", "de_DE")) -> Callable[[random.Random], str]:
    """Makes values by a method of Faker."""
    fakes = {locale: Faker(locale) for locale in locales}

    def make(draw: random.Random) -> str:
        fake = fakes[draw.choice(locales)]
        fake.seed_instance(draw.getrandbits(32))
        return str(getattr(fake, method)())

    return make


def full_name(locales: tuple[str, ...]) -> Callable[[random.Random], str]:
    """Makes a first name and a surname."""
    first, last = faked("first_name", locales), faked("last_name", locales)
    return lambda draw: f"{first(draw)} {last(draw)}"


def phone(regions: tuple[str, ...], form: int) -> Callable[[random.Random], str]:
    """Makes valid numbers: an example of `phonenumbers` whose last digits are drawn until it is valid."""

    def make(draw: random.Random) -> str:
        while True:
            region = draw.choice(regions)
            example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
            example.national_number += draw.randrange(1000)
            if phonenumbers.is_valid_number(example):
                return phonenumbers.format_number(example, form)

    return make


def grouped(make: Callable[[random.Random], str]) -> Callable[[random.Random], str]:
    """In groups of four, for half of the values."""

    def spaced(draw: random.Random) -> str:
        value = make(draw)
        return value if draw.random() < 0.5 else " ".join(value[at : at + 4] for at in range(0, len(value), 4))

    return spaced


_NATIONAL, _INTERNATIONAL = phonenumbers.PhoneNumberFormat.NATIONAL, phonenumbers.PhoneNumberFormat.INTERNATIONAL
SOURCES: Mapping[str, tuple[str, Callable[[random.Random], str], tuple[str, ...]]] = {
    "email": ("email", faked("email"), CARRIERS),
    "phone, national, known regions": ("phone", phone(REGIONS, _NATIONAL), CARRIERS),
    "phone, international, other regions": ("phone", phone(OTHER_REGIONS, _INTERNATIONAL), CARRIERS),
    "phone, national, other regions": ("phone", phone(OTHER_REGIONS, _NATIONAL), CARRIERS),
    "iban": ("iban", grouped(faked("iban", ("de_DE", "en_GB", "fr_FR", "nl_NL", "pl_PL"))), CARRIERS),
    "card": ("card", grouped(faked("credit_card_number")), CARRIERS),
    "ip": ("ip", faked("ipv4"), CARRIERS),
    "ip, version 6": ("ip", faked("ipv6"), CARRIERS),
    "name, known first name, plain": ("name", full_name(LOCALES), NAME_PLAIN),
    "name, known first name, in a frame": ("name", full_name(LOCALES), NAME_FRAMES),
    "name, other locales, plain": ("name", full_name(OTHER_LOCALES), NAME_PLAIN),
    "name, other locales, in a frame": ("name", full_name(OTHER_LOCALES), NAME_FRAMES),
    "name, first name alone, plain": ("name", faked("first_name", LOCALES), NAME_PLAIN),
}
"""Row of the table → kind, maker of values, sentences."""

if __name__ == "__main__":
    main()
