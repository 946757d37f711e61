"""The queue: real small trainings wait for each other, go on after an error and a stop, and outlive the page's process."""

import json
import subprocess
import sys

import pytest
from test_jobs import LONG, REPOSITORY, config, jobs, stepping, until  # noqa: F401  # config and jobs are fixtures

from monju.errors import MonjuError
from monju.runs.run import Run
from monju.training import job_queue
from monju.training.job_manager import JobManager


@pytest.fixture
def queue(jobs):  # noqa: F811
    yield jobs.queue
    for entry in jobs.queue.waiting():  # before `jobs` is stopped
        jobs.queue.withdraw(entry["name"])


def names(queue):
    return [entry["name"] for entry in queue.waiting()]


@pytest.mark.slow
def test_what_waits_begins_after_an_error_and_after_a_stop_and_the_pins_come_with_it(jobs, queue, config, tmp_path):  # noqa: F811
    (tmp_path / "one.csv").write_text("text,label\n" + "good,1\n" * 20)
    bad = config(data=str(tmp_path / "one.csv"), label_names=[])
    assert queue.submit([(bad, "bad", [])]) is True
    assert queue.submit([(config(epochs=LONG), "long", [" a film "])]) is False
    assert queue.submit([(config(), "third", []), (config(seed=1), "fourth", [])]) is False
    until(lambda: names(queue) == ["third", "fourth"], "nothing followed the one that failed")
    assert jobs.last() == "long" and jobs.snapshot("bad")["status"] == "failed"
    assert jobs.watched("long")[0] == ["a film"]
    stepping(jobs)
    queue.withdraw("fourth")
    jobs.stop()  # it alone
    until(lambda: queue.past() == ["bad", "long", "third"], "nothing followed the one that was stopped")
    assert jobs.last() == "third" and jobs.snapshot("long")["status"] == "stopped"
    # a continuation waits its turn, too
    queue.submit([(None, "long", [])])
    until(lambda: jobs.last() == "long", "nothing followed the one that was finished")
    assert Run.open(jobs.folder / "third").finished and names(queue) == []


@pytest.mark.slow
def test_the_queue_outlives_the_process_of_the_page(tmp_path, config, jobs):  # noqa: F811
    code = ("import json, sys, time\nfrom monju.config import Config\nfrom monju.training.job_manager import JobManager\n"
            "queue, config = JobManager(sys.argv[1]).queue, Config.from_json(json.loads(sys.argv[2]))\n"
            "queue.submit([(config, 'one', [])]); queue.submit([(config, 'two', ['x'])]); time.sleep(600)")
    page = subprocess.Popen([sys.executable, "-c", code, str(jobs.folder), json.dumps(config(epochs=LONG).to_json())], cwd=REPOSITORY)
    until(lambda: names(jobs.queue) == ["two"], "nothing waits")
    page.kill()
    page.wait()
    until(lambda: not jobs.running(), "the trainer outlived the page")
    again = JobManager(jobs.folder)
    assert names(again.queue) == ["two"] and again.snapshot()["status"] == "died"
    again.queue.go_on()
    until(lambda: again.last() == "two", "nothing went on")
    assert again.watched("two")[0] == ["x"] and not names(again.queue)


def test_what_cannot_be_is_refused_whole_in_both_languages(jobs, queue, config, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(JobManager, "running", lambda self: True)
    monkeypatch.setattr(queue, "go_on", lambda: None)
    queue.submit([(config(), "one", [])])
    (jobs.folder / "there").mkdir()
    for trainings, said, ja in (
            ([(config(), "two", []), (config(), "one", [])], "one already waits", "すでに待ち行列"),
            ([(config(), "there", [])], "already a run named there", "すでにあります"),
            ([(config(), "a/b", [])], "cannot be named", "使えません"), ([(config(), " ", [])], "needs a name", "名前が必要"),
            ([(config(), f"n{i}", []) for i in range(20)], "at most 20 trainings", "20 個まで"),
            ([(config(), "two", [str(i) for i in range(6)])], "at most 5 sentences", "5 つまで")):
        with pytest.raises(MonjuError, match=said) as refused:
            queue.submit(trainings)
        assert ja in refused.value.note.text("ja") and names(queue) == ["one"]
    assert len(json.loads(queue.path.read_text())["waiting"]) == 1 and job_queue.MOST == 20


def test_what_cannot_begin_stays_with_the_reason_and_the_next_is_tried(jobs, queue, config, monkeypatch):  # noqa: F811
    """A run that is deleted while its continuation waits; a name that was taken meanwhile."""
    begun = []
    monkeypatch.setattr(queue, "go_on", lambda: None)
    with monkeypatch.context() as busy:
        busy.setattr(JobManager, "running", lambda self: True)
        queue.submit([(None, "gone", []), (config(), "taken", []), (config(), "fine", [])])
    (jobs.folder / "taken").mkdir(parents=True)
    start = jobs.start
    monkeypatch.setattr(jobs, "start", lambda *given: (start(*given), begun.append(given[1])))
    for _ in range(3):
        queue.advance()
    assert begun == ["fine"] and names(queue) == ["gone", "taken"]
    reasons = [entry["reason"] for entry in queue.waiting()]
    assert "no run gone to continue" in reasons[0] and "already a run named taken" in reasons[1]
    queue.withdraw("gone")
    assert names(queue) == ["taken"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"waiting": 3}', '{"waiting": [{"name": "../x"}], "past": []}'])
def test_a_damaged_queue_is_an_empty_one(jobs, content):  # noqa: F811
    jobs.place.mkdir(parents=True)
    jobs.queue.path.write_text(content)
    assert jobs.queue.waiting() == [] == jobs.queue.past()
