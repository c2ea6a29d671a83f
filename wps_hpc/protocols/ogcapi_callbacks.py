"""What subscribers are told of their jobs (18-062r2 §12): the results, or the status, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from wps_hpc.config import Settings
from wps_hpc.errors import ServiceError
from wps_hpc.jobs.fetch import Posting
from wps_hpc.jobs.job import Job, JobState
from wps_hpc.jobs.outbox import Callback
from wps_hpc.protocols.ogcapi_jobs import status_info
from wps_hpc.protocols.ogcapi_links import Addresses
from wps_hpc.protocols.ogcapi_results import Made, link_header, results, to_json
from wps_hpc.protocols.ports import Catalogue, Results

_JSON = "application/json"


@dataclass(frozen=True)
class CallbackDocuments:
    """Writes callbacks; used by several threads at once. ``job`` looks a job up by its id."""

    settings: Settings
    catalogue: Catalogue
    job: Callable[[str], Job | None]
    results: Results

    def posting(self, callback: Callback) -> Posting | None:
        """The document of a callback, with a link to its job; None when the job is gone, or its results are.

        Success: the results (results.yaml), in progress and failed: the status (statusInfo.yaml).
        """
        job = self.job(callback.job_id)
        if job is None or not self._still_true(callback, job):
            return None
        addresses = Addresses(self.settings.server.base_url)
        try:
            body = to_json(self._document(callback, job, addresses))
        except ServiceError:
            return None  # the results cannot be read any more; whoever asks for them is told why
        monitor = link_header({"href": addresses.job(job), "rel": "monitor", "type": _JSON})
        return Posting(callback.uri, body, _JSON, (("Link", monitor),))

    def _still_true(self, callback: Callback, job: Job) -> bool:
        return callback.kind != "in_progress" or not job.final

    def _document(self, callback: Callback, job: Job, addresses: Addresses) -> dict[str, object]:
        if callback.kind == "success" and job.state is JobState.SUCCEEDED:
            return results(self._made(job, addresses))
        return status_info(job, addresses)

    def _made(self, job: Job, addresses: Addresses) -> Made:
        entry = self.catalogue.get(job.process)
        return Made(
            job=job,
            request=self.results.request(job),
            process=None if entry is None else entry.description,
            outputs=self.results.outputs(job),
            addresses=addresses,
            open=partial(self.results.open, job),
            embed_bytes=self.settings.limits.embed_bytes,
        )
