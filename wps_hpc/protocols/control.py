"""Job control by clients, whichever protocol they speak: dismiss, pause, resume; and who may do so.

On a published service without a proxy that says who is asking, nobody may. Elsewhere an owner steers the jobs of that
owner; jobs without one are steered only where nobody but the users of this host can ask.
"""

from __future__ import annotations

from wps_hpc.config import Server
from wps_hpc.errors import Forbidden, InvalidParameterValue, OperationNotSupported
from wps_hpc.jobs.job import Job
from wps_hpc.protocols.ports import Intake


class JobControl:
    """Steers jobs for clients. ``owner`` is who the proxy says is asking, None for nobody in particular."""

    def __init__(self, server: Server, intake: Intake) -> None:
        self._server = server
        self._intake = intake

    @property
    def offered(self) -> bool:
        """Whether there is any job control here, for capabilities documents."""
        return self._server.job_control

    def dismiss(self, job: Job, owner: str | None, operation: str, how: str | None = None) -> Job:
        """Have the job ended, or its results go if it has ended; the answer may still be on its way to that.

        ``operation`` is what the protocol calls this, and ``how`` what is told of it to those who ask for the job
        (default: the same). Raises OperationNotSupported or Forbidden.
        """
        self._check_allowed(job, owner, operation)
        if job.final:
            self._intake.forget(job.id)
            return job
        return self._intake.dismiss(job.id, f"{owner or 'its client'} ({how or operation})")

    def pause(self, job: Job, owner: str | None, operation: str) -> Job:
        """Have the job wait until it is resumed; also raises InvalidParameterValue for a job that has ended."""
        self._check_steerable(job, owner, operation)
        return self._intake.pause(job.id)

    def resume(self, job: Job, owner: str | None, operation: str) -> Job:
        """Have a paused job go on; raises as ``pause`` does."""
        self._check_steerable(job, owner, operation)
        return self._intake.resume(job.id)

    def _check_allowed(self, job: Job, owner: str | None, operation: str) -> None:
        if not self.offered:
            raise OperationNotSupported(
                f"{operation} is off: this service is public, and nobody says who is asking.", operation
            )
        if job.owner != owner or (owner is None and self._server.published):
            raise Forbidden(f"{operation} is for the owner of a job alone, and this job has another, or none.")

    def _check_steerable(self, job: Job, owner: str | None, operation: str) -> None:
        self._check_allowed(job, owner, operation)
        if job.final:
            raise InvalidParameterValue(
                f"The job {job.id} has ended ({job.state}); {operation} comes too late.", job.id
            )
