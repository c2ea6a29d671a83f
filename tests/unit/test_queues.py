"""Which queue a job goes to: the smallest that fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wps_hpc.clusters.queues import NoQueueFits, choose_queue
from wps_hpc.config import Queue
from wps_hpc.processes.description import Resources

SHORT = Queue(name="short", max_walltime_seconds=600, max_memory_mb=4000, max_cores=4, max_gpus=0)
LARGE = Queue(name="large", max_walltime_seconds=600, max_memory_mb=64_000)
LONG = Queue(name="long", max_walltime_seconds=86_400, max_nodes=1)
QUEUES = (LONG, LARGE, SHORT)


@pytest.mark.parametrize(
    ("needed", "name"),
    [
        (Resources(), "short"),
        (Resources(walltime_s=600, memory_mb=4000, cores=4, gpus=0), "short"),
        (Resources(walltime_s=601), "long"),
        (Resources(memory_mb=4001), "large"),
        (Resources(cores=5), "large"),
        (Resources(gpus=1), "large"),
        (Resources(walltime_s=60, memory_mb=100_000), "long"),
        (Resources(nodes=2), "short"),
        (Resources(tasks=5), "large"),
        (Resources(tasks=3, cores=4), "large"),
        (Resources(nodes=3, cores=4), "large"),
    ],
)
def test_the_smallest_queue_that_fits_is_taken(needed: Resources, name: str) -> None:
    queue = choose_queue(QUEUES, needed)
    assert queue is not None and queue.name == name


def test_a_cluster_without_queues_leaves_the_choice_to_the_scheduler() -> None:
    assert choose_queue((), Resources(cores=1000)) is None


def test_a_job_that_fits_nowhere_is_told_what_it_asked_for() -> None:
    with pytest.raises(NoQueueFits, match=r"gives a job 90000 s of walltime, 10 MiB of memory and 2 nodes\."):
        choose_queue(QUEUES, Resources(walltime_s=90_000, memory_mb=10, nodes=2))
    with pytest.raises(NoQueueFits, match=r"gives a job 90000 s of walltime\."):
        choose_queue(QUEUES, Resources(walltime_s=90_000))


def test_queues_are_told_apart_by_the_size_of_the_input_files() -> None:
    queues = (Queue(name="bulk"), Queue(name="quick", max_input_mb=10))
    chosen = [choose_queue(queues, Resources(), size) for size in (0, 10, 11)]
    assert [queue and queue.name for queue in chosen] == ["quick", "quick", "bulk"]
    with pytest.raises(NoQueueFits, match=r"gives a job 11 MiB of input files\.") as refused:
        choose_queue(queues[1:], Resources(), 11)
    assert refused.value.resource == "input_mb"


@pytest.mark.parametrize(
    ("needed", "resource"),
    [
        (Resources(walltime_s=90_000), "walltime_s"),
        (Resources(nodes=2, gpus=2), "resources"),
        (Resources(memory_mb=100_000, walltime_s=90_000), "walltime_s"),
    ],
)
def test_what_there_is_not_is_named(needed: Resources, resource: str) -> None:
    """Where each queue lacks something else, no single resource is at fault."""
    few_nodes = Queue(name="few", max_nodes=1)
    no_gpus = Queue(name="no-gpus", max_gpus=0)
    queues = (few_nodes, no_gpus) if needed.nodes else QUEUES
    with pytest.raises(NoQueueFits) as refused:
        choose_queue(queues, needed)
    assert refused.value.resource == resource


amounts = st.none() | st.integers(1, 100)
queues = st.lists(st.builds(Queue, name=st.just("q"), max_walltime_seconds=amounts, max_cores=amounts), min_size=1)


@given(queues, st.builds(Resources, walltime_s=amounts, cores=amounts))
def test_the_chosen_queue_gives_what_is_needed_and_the_order_of_the_queues_does_not_matter(
    described: list[Queue], needed: Resources
) -> None:
    try:
        queue = choose_queue(described, needed)
    except NoQueueFits:
        return
    assert queue is not None
    assert (needed.walltime_s or 0) <= (queue.max_walltime_seconds or 1000)
    assert (needed.cores or 0) <= (queue.max_cores or 1000)
    assert choose_queue(list(reversed(described)), needed) == queue


@pytest.mark.parametrize("described", [True, False])
def test_gpus_that_cannot_be_shared_out_are_refused(described: bool) -> None:
    """Every batch system counts them by node."""
    queues = [Queue(name="any")] if described else []
    for gpus, nodes in ((4, 2), (3, None), (0, 2), (None, 2)):
        choose_queue(queues, Resources(nodes=nodes, gpus=gpus))
    with pytest.raises(NoQueueFits, match="3 GPUs cannot be shared out evenly over 2 nodes") as raised:
        choose_queue(queues, Resources(nodes=2, gpus=3))
    assert raised.value.resource == "gpus"
