"""The validator of JSON documents refuses what the official schemas refuse."""

import pytest

from tests.schemas import validate_json


@pytest.mark.parametrize(
    ("document", "schema"),
    [
        ({"jobID": "1", "type": "process", "status": "done"}, "statusInfo.yaml"),
        ({"jobID": "1", "type": "process", "status": "failed", "finished": None}, "statusInfo.yaml"),
        ({"jobID": "1", "status": "failed"}, "statusInfo.yaml"),
        ({"jobs": [{}], "links": []}, "jobList.yaml"),
        ({"links": [{"rel": "self"}]}, "landingPage.yaml"),
        ({"a": {"bbox": [1, 2, 3, 4], "crs": "urn:ogc:def:crs:EPSG::4326"}}, "results.yaml"),
        ({"a": {"b": 1}}, "results.yaml"),
        ({"id": "a", "version": "1", "inputs": {"x": {"schema": {"kind": 1}}}}, "process.yaml"),
        ({"status": 404}, "exception.yaml"),
    ],
)
def test_what_is_not_valid(document: object, schema: str) -> None:
    with pytest.raises(AssertionError, match="not valid against"):
        validate_json(document, schema)
