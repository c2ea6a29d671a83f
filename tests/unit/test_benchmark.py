"""The benchmark does not rot: its load counts only right answers, and a short run measures both servers."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.schemas import ROOT
from tests.services.website import Reply, Website, page, website

BENCHMARKS = ROOT / "benchmarks"
GET = "GET /{} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
SERIAL = "@@SERIAL"


def give_back(reply: Reply) -> None:
    """Answer with the number that was sent."""
    reply.send(page(f"<{reply.asked.headers['number']}>".encode(), "Connection: close"))


@pytest.fixture
def site() -> Iterator[Website]:
    with website() as running:
        running.pages["/right"] = page(b"whole", "Connection: close")
        running.pages["/wrong"] = page(b"other", "Connection: close")
        running.pages["/busy"] = page(b"whole", "Connection: close", status="503 Busy")
        running.pages["/torn"] = page(b"who", "Connection: close", length=5)
        running.pages["/number"] = give_back
        yield running


def put_under_load(site: Website, exchange: dict[str, Any], **plan: Any) -> dict[str, Any]:
    """The outcome of a small plan, carried out by the load's own process."""
    whole = {"port": site.port, "exchanges": [exchange], "connections": 2, "seconds": 20, "most": 6, **plan}
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "load.py")],
        input=json.dumps(whole),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return dict(json.loads(done.stdout))


def test_right_answers_are_counted_and_timed(site: Website) -> None:
    outcome = put_under_load(site, {"request": GET.format("right"), "exact": "whole"})
    assert (len(outcome["latencies"]), outcome["errors"], outcome["told"]) == (6, 0, [])
    assert 0 < max(outcome["latencies"]) <= outcome["seconds"]
    assert len(site.asked) == 6


@pytest.mark.parametrize(
    ("path", "said"), [("wrong", "200 OK: other"), ("busy", "503 Busy"), ("torn", "closed"), ("none", "404")]
)
def test_any_other_answer_is_an_error(site: Website, path: str, said: str) -> None:
    outcome = put_under_load(site, {"request": GET.format(path), "exact": "whole"})
    assert (outcome["latencies"], outcome["errors"]) == ([], 6)
    assert said in outcome["told"][0]


def test_each_request_has_its_number_and_wants_it_back(site: Website) -> None:
    request = f"GET /number HTTP/1.1\r\nHost: 127.0.0.1\r\nNumber: {SERIAL}\r\n\r\n"
    outcome = put_under_load(site, {"request": request, "holds": [f"<{SERIAL}>"]}, collect="<(.*)>")
    assert sorted(outcome["collected"]) == [f"{n:08d}" for n in range(6)]
    assert outcome["errors"] == 0


def test_it_ends_when_its_time_is_over(site: Website) -> None:
    outcome = put_under_load(site, {"request": GET.format("right"), "exact": "whole"}, seconds=0.2, most=10**6)
    assert 0 < len(outcome["latencies"]) < 10**6
    assert 0.2 <= outcome["seconds"] < 20


@pytest.mark.cluster
@pytest.mark.timeout(200)
def test_a_short_run_measures_both_servers() -> None:
    """The operations are three of the five: asynchronous jobs of PyWPS may get stuck, which takes long to see."""
    options = ["--seconds", "0.3", "--rounds", "1", "--connections", "2", "--json"]
    only = [f"--only={name}" for name in ("capabilities", "describe", "sync")]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "protocol.py"), *options, *only], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    operations = json.loads(done.stdout)["operations"]
    assert list(operations) == ["capabilities", "describe", "sync"]
    for measured in operations.values():
        ours, theirs = measured["wps-hpc"], measured["PyWPS"]
        assert ours["errors"] == theirs["errors"] == 0
        assert measured["ratio"] == pytest.approx(ours["rate"] / theirs["rate"])
        assert 0 < ours["p50_ms"] <= ours["p99_ms"]


def test_a_load_without_end_is_refused() -> None:
    for option in ("--seconds=1000", "--rounds=0", "--connections=100000"):
        done = subprocess.run([sys.executable, str(BENCHMARKS / "protocol.py"), option], capture_output=True, text=True)
        assert done.returncode == 2
        assert "at most 60 seconds" in done.stderr
