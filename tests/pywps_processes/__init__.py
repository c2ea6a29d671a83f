"""Processes as a centre that runs PyWPS has them, written against PyWPS alone: every feature that its authors use.

Nothing in here knows wps-hpc, and all of it runs under PyWPS as it stands. Between them: classes, instances with
constructor arguments, classes made at run time, handlers that are closures; a base class, a module that its package
hides behind a class of the same name.
"""

from tests.pywps_processes.classes import (
    Annotated,
    Boxes,
    Calls,
    Choices,
    Defaults,
    Documents,
    Fails,
    Files,
    Literals,
    MetaLinks,
    Objects,
    Progress,
    Remote,
    Repeated,
    Silent,
    Streams,
    Surroundings,
    Units,
    Validated,
)
from tests.pywps_processes.made import greeter, power, query
from tests.pywps_processes.Shadowed import Shadowed

processes = [
    Annotated(),
    Boxes(),
    Calls(),
    Choices(),
    Defaults(),
    Documents(),
    Fails(),
    Files(),
    Literals(),
    MetaLinks(),
    Objects(),
    Progress(),
    Remote(),
    Repeated(),
    Shadowed(),
    Silent(),
    Streams(),
    Surroundings(),
    Units(),
    Validated(),
    greeter("salut", "Salut"),
    power(2)(),
    power(3)(),
    query("query"),
]
