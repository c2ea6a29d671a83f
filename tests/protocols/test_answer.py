"""The two caches of ready documents."""

from wps_hpc.protocols.answer import RecentDocuments, RevisionCache


def test_a_document_is_rendered_once_a_revision() -> None:
    cache, rendered = RevisionCache(), []

    def render() -> bytes:
        rendered.append(1)
        return b"%d" % len(rendered)

    assert [cache.get(1, "a", render), cache.get(1, "a", render)] == [b"1", b"1"]
    assert cache.get(1, "b", render) == b"2"
    assert cache.get(2, "a", render) == b"3"
    assert cache.get(0, "a", render) == b"4"


def test_recent_documents_forget_the_one_used_least_recently() -> None:
    recent = RecentDocuments(count=2)
    recent.put("a", b"1")
    recent.put("b", b"2")
    assert recent.get("a") == b"1"
    recent.put("c", b"3")
    assert [recent.get(name) for name in "abc"] == [b"1", None, b"3"]


def test_recent_documents_hold_no_large_ones() -> None:
    recent = RecentDocuments(largest=3)
    recent.put("a", b"1234")
    recent.put("b", b"123")
    assert [recent.get("a"), recent.get("b")] == [None, b"123"]
