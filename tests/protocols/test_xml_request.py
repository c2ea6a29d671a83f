"""Reading XML requests: what becomes a node, and what is cut out of the request as it stands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from wps_hpc.errors import BadRequest
from wps_hpc.protocols.xml import WPS, is_legal
from wps_hpc.protocols.xml_request import MAX_TAG, Content, Document, read_document

OPAQUE = frozenset({(WPS, "ComplexData")})
START = b'<r xmlns="http://www.opengis.net/wps/1.0.0" xmlns:g="urn:g?a&amp;b">'


def read(inner: bytes) -> Document:
    return read_document(START + inner + b"</r>", OPAQUE)


def content(inner: bytes) -> Content:
    found = read(b"<ComplexData>" + inner + b"</ComplexData>").root.children[0].content
    assert found is not None
    return found


def test_nodes_have_names_texts_and_attributes() -> None:
    root = read_document(
        b'<a xmlns="urn:a" xmlns:x="urn:x"><b c="1" x:d="2"> t&lt;<!-- no --><![CDATA[&]]> </b></a>', OPAQUE
    ).root
    (child,) = root.children
    assert (root.namespace, child.name, child.text) == ("urn:a", "b", "t<&")
    assert child.attributes == {"c": "1", "{urn:x}d": "2"}
    assert root.first("b", "urn:a") is child
    assert root.first("b") is None


def test_only_elements_of_the_standard_are_opaque() -> None:
    root = read_document(b"<ComplexData><a/></ComplexData>", OPAQUE).root
    assert (root.content, [child.name for child in root.children]) == (None, ["a"])


@pytest.mark.parametrize(
    ("inner", "document"),
    [
        (b"<g:a/>", b'<g:a xmlns="http://www.opengis.net/wps/1.0.0" xmlns:g="urn:g?a&amp;b"/>'),
        (b' <a xmlns=""/>\n', b'<a xmlns:g="urn:g?a&amp;b" xmlns=""/>'),
        (
            b"<g:a\n xmlns:g='urn:h'>&gt;</g:a><!-- after -->",
            b"<g:a xmlns=\"http://www.opengis.net/wps/1.0.0\"\n xmlns:g='urn:h'>&gt;</g:a><!-- after -->",
        ),
        (
            b"<?before?><g:a><b/><c>]]&gt;</c></g:a>",
            b'<g:a xmlns="http://www.opengis.net/wps/1.0.0" xmlns:g="urn:g?a&amp;b"><b/><c>]]&gt;</c></g:a>',
        ),
    ],
)
def test_an_element_is_cut_out_with_its_namespaces(inner: bytes, document: bytes) -> None:
    assert content(inner) == Content(document=document)


def test_namespaces_of_one_input_do_not_leak_into_the_next() -> None:
    root = read(
        b"<ComplexData><a xmlns:p='urn:p' xmlns='urn:q'><p:b/></a></ComplexData><ComplexData><c/></ComplexData>"
    ).root
    second = root.children[1].content
    assert second is not None
    assert b"urn:p" not in (second.document or b"")
    assert root.children[1].namespace == root.namespace


@given(st.text().filter(is_legal))
def test_text_is_the_text_that_any_parser_sees(text: str) -> None:
    element = etree.Element("{http://www.opengis.net/wps/1.0.0}ComplexData")
    element.text = text
    found = read_document(etree.tostring(element), OPAQUE).root.content
    assert found == Content(text)


def test_a_fragment_of_the_request_is_a_document_of_its_own() -> None:
    document = read(b"<x g:y='1'><ComplexData><z/></ComplexData></x>")
    fragment = etree.fromstring(document.fragment(document.root.children[0]))
    assert fragment.get("{urn:g?a&b}y") == "1"
    assert fragment[0][0].tag == "{http://www.opengis.net/wps/1.0.0}z"


@pytest.mark.parametrize("size", [MAX_TAG - 1000, 3 * MAX_TAG])
def test_long_texts_pass_in_any_place_and_long_tags_do_not(size: int) -> None:
    long = b"x" * size
    assert content(long).text == long.decode()
    assert len(content(b"<a>" + long + b"</a>").document or b"") > size
    assert content(b"<![CDATA[" + long + b"]]>").text == long.decode()
    if size > MAX_TAG:
        with pytest.raises(BadRequest, match="tag longer than"):
            content(b"<a b='" + long + b"'/>")
    else:
        assert content(b"<a b='" + long + b"'/>").document
