import argparse
from collections.abc import Iterator

import pytest

import annotate.__main__
import ppo.__main__
import reward.verbs.command
import sft.__main__
import workbench.__main__
from workbench.run import options
from workbench.run.command_line import parse_words

PARSERS = {
    "annotate": annotate.__main__.make_parser,
    "ppo": ppo.__main__.make_parser,
    "reward": reward.verbs.command.make_parser,
    "sft": sft.__main__.make_parser,
    "workbench": workbench.__main__.make_parser,
}


def actions(parser: argparse.ArgumentParser, words: str = "") -> Iterator[tuple[str, argparse.Action]]:
    """Every option of a parser and of its verbs, with the words before it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                yield from actions(verb, f"{words} {name}")
        else:
            yield f"{words} {action.dest}", action


@pytest.mark.parametrize("package", PARSERS)
def test_no_option_takes_a_number_that_it_cannot_use(package):
    for name, action in actions(PARSERS[package]()):
        assert action.type not in (int, float), f"{package}{name}: a type of workbench.run.options says what it takes"
        if getattr(action.type, "__module__", None) == options.__name__:
            for text in ("-1", "nan", "inf", "1e999", "one", ""):
                with pytest.raises(argparse.ArgumentTypeError, match="must be"):
                    action.type(text)


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (options.positive_int, {"1": 1, "20": 20}, ["0", "1.5"]),
        (options.count, {"0": 0, "7": 7}, ["0.5"]),
        (options.seed, {"0": 0, "4294967294": 2**32 - 2}, ["4294967295", "9" * 23]),
        (options.port, {"1": 1, "65535": 65535}, ["0", "65536"]),
        (options.positive_number, {"1e-3": 0.001, "24": 24.0}, ["0"]),
        (options.share, {"0": 0.0, "1": 1.0}, ["1.01"]),
    ],
)
def test_what_each_kind_takes(kind, right, wrong):
    assert {text: kind(text) for text in right} == right
    for text in wrong:
        with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' must be "):
            kind(text)


def test_a_wrong_number_is_one_clear_error(capsys):
    with pytest.raises(SystemExit) as ended:
        parse_words(workbench.__main__.make_parser(), ["evaluate", "RUN", "--samples", "0"])
    assert ended.value.code == 2
    assert "argument --samples: '0' must be a positive integer" in capsys.readouterr().err
