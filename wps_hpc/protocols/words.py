"""What a client reads about a job and its outputs, in whatever kind of document."""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import quote

from joblauncher.formats.values import FileValue
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.protocols.xml import clean

#: What a client reads when the job has no message of its own; it must never be empty.
SENTENCES: Mapping[JobState, str] = {
    JobState.ACCEPTED: "The job is accepted and waits for its turn.",
    JobState.STAGING: "The inputs are being fetched.",
    JobState.SUBMITTING: "The job is being handed to the batch system.",
    JobState.QUEUED: "The job waits in the queue of the batch system.",
    JobState.HELD: "The job is held.",
    JobState.RUNNING: "The job is running.",
    JobState.SUSPENDED: "The job is suspended.",
    JobState.SUCCEEDED: "The job has finished.",
    JobState.FAILED: "The job has failed.",
    JobState.DISMISSED: "The job was dismissed.",
}


def message(job: Job) -> str:
    """The sentence that a client shows its user: the job's own, and why it waits; never empty."""
    sentence = job.message.strip() or SENTENCES[job.state]
    if job.reason and not job.final and job.reason not in sentence:
        sentence = f"{sentence} ({job.reason})"
    if job.stale_since is not None and not job.final:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(job.stale_since))
        sentence = f"{sentence} [The batch system has not answered since {since} UTC.]"
    return clean(sentence)


def output_name(value: FileValue) -> str:
    """The name of an output's file below the attempt's outputs folder; it names the download as well."""
    return value.path.removeprefix("outputs/")


def output_address(base: str, job: Job, value: FileValue) -> str:
    """Where an output file of a job is; ``base`` is the public address of the server without a trailing slash."""
    return f"{base}/outputs/{job.id}/{quote(output_name(value))}"
