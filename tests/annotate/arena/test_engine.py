import os
import signal
from pathlib import Path

import pytest

from tests.annotate.arena.conftest import request, wait_for
from workbench.run.errors import WorkbenchError
from workbench.serve.engine import MOST_AT_ONCE, MOST_WAITING, Engine


def test_two_answers_are_written_side_by_side(engine: Engine) -> None:
    asked, heard = request(1, "say 3", "say 2")
    engine.ask(asked)
    wait_for(lambda: len(heard.ends) == 2)
    assert [line for index, line in heard.lines if index == 0][-1] == {"text": "r0 r0 r0 ", "ended": True}
    assert [line["add"] for index, line in heard.lines if index == 1 and "add" in line] == ["r1 ", "r1 "]
    assert asked.jobs == {}


def test_a_stopped_answer_frees_its_place(engine: Engine) -> None:
    busy = [request(account, "wait", "wait") for account in range(MOST_AT_ONCE // 2)]
    for asked, _ in busy:
        engine.ask(asked)
    waiting, heard = request(9, "say 1", "say 1")
    engine.ask(waiting)
    assert engine.place(waiting) == 1
    stopped, told = busy[0]
    engine.stop(stopped, 0)
    wait_for(lambda: told.ends)
    assert told.ends == [{"text": told.ends[0]["text"], "ended": False}]
    assert heard.lines == []  # one place is not enough for two answers
    engine.stop(stopped)
    wait_for(lambda: len(heard.ends) == 2)
    assert engine.place(waiting) == 0


def test_a_waiting_request_is_stopped(engine: Engine) -> None:
    for account in range(MOST_AT_ONCE):
        engine.ask(request(account, "wait")[0])
    waiting, heard = request(9, "say 1", "say 1")
    engine.ask(waiting)
    engine.stop(waiting)
    assert heard.ends == [{"text": "", "ended": False}] * 2
    assert engine.place(waiting) == 0


def test_who_has_the_fewest_answers_at_work_comes_first(engine: Engine) -> None:
    """One account with many requests does not keep others waiting."""
    mine = [request(1, "wait", "wait") for _ in range(MOST_AT_ONCE // 2 + 2)]
    for asked, _ in mine:
        engine.ask(asked)
    others = request(2, "say 1", "say 1")
    engine.ask(others[0])
    assert [engine.place(asked) for asked, _ in mine[-2:]] == [2, 3]
    assert engine.place(others[0]) == 1
    engine.stop(mine[0][0])
    wait_for(lambda: len(others[1].ends) == 2)
    assert engine.place(mine[-1][0]) > 0 or engine.place(mine[-2][0]) == 0


def test_too_many_requests_are_refused(engine: Engine) -> None:
    for _ in range(MOST_AT_ONCE + MOST_WAITING):
        engine.ask(request(1, "wait")[0])
    with pytest.raises(WorkbenchError, match="requests are already waiting"):
        engine.ask(request(2, "say 1")[0])


def test_an_error_ends_one_answer(engine: Engine) -> None:
    asked, heard = request(1, "refuse this")
    engine.ask(asked)
    wait_for(lambda: heard.ends)
    assert heard.ends == [{"error": "too long"}]
    again, fine = request(1, "say 1")
    engine.ask(again)
    wait_for(lambda: fine.ends)


@pytest.mark.parametrize("how", ["killed", "exits"])
def test_a_dead_process_is_started_again(engine: Engine, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked, heard = request(1, "wait", "wait")
    engine.ask(asked)
    wait_for(lambda: len(heard.lines) > 1)
    before = engine.pid
    if how == "killed":
        os.kill(before, signal.SIGKILL)
    else:
        engine.ask(request(2, "die")[0])
    wait_for(lambda: len(heard.ends) == 2)
    ending = "was killed (SIGKILL)" if how == "killed" else "ended with exit code 7"
    assert [line["error"] for line in heard.ends] == [
        f"The process that writes answers {ending}. It starts again: retry."
    ] * 2
    again, fine = request(1, "say 2")
    engine.ask(again)  # waits for the new process
    wait_for(lambda: fine.ends)
    assert engine.pid != before
    assert ending in capsys.readouterr().err


def test_a_process_that_cannot_start_is_explained(fake_worker: Path) -> None:
    for mood, message in (("fatal", "the base is missing"), ("die", "ended with exit code 3 at its start")):
        fake_worker.write_text(mood)
        with pytest.raises(WorkbenchError, match=message):
            Engine(["one"], max_new_tokens=5, temperature=1.0, command="arena", option="tokens").start()


def test_a_process_that_does_not_start_again_is_given_up(
    engine: Engine, fake_worker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.serve.engine.time.sleep", lambda seconds: None)
    fake_worker.write_text("die")
    for account in range(MOST_AT_ONCE):
        engine.ask(request(account, "wait")[0])
    waiting, heard = request(9, "say 1")
    engine.ask(waiting)
    os.kill(engine.pid, signal.SIGKILL)
    wait_for(lambda: heard.ends)
    assert "failed to start 3 times" in heard.ends[0]["error"]
    with pytest.raises(WorkbenchError, match="failed to start"):
        engine.ask(request(1, "say 1")[0])
