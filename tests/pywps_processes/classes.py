"""One class for each feature of PyWPS's interface for authors."""

import json
from datetime import date
from pathlib import Path

from pywps import (
    FORMATS,
    BoundingBoxInput,
    BoundingBoxOutput,
    ComplexInput,
    ComplexOutput,
    Format,
    LiteralInput,
    LiteralOutput,
    Process,
    configuration,
)
from pywps.app.Common import Metadata
from pywps.app.exceptions import ProcessError
from pywps.exceptions import InvalidParameterValue
from pywps.inout.literaltypes import AllowedValue, AnyValue, ValuesReference
from pywps.inout.outputs import MetaFile, MetaLink, MetaLink4
from pywps.validator.mode import MODE

LITERALS = {
    "float": "1.5",
    "boolean": "true",
    "integer": "-7",
    "string": "some text",
    "positiveInteger": "7",
    "nonNegativeInteger": "3",
    "anyURI": "https://example.org/a?b=c",
    "time": "12:30:00",
    "date": "2020-02-29",
    "dateTime": "2020-02-29T12:30:00",
    "scale": "0.5",
    "angle": "45.0",
}
TEXT = Format("text/plain", extension=".txt")
BINARY = Format("image/png", encoding="base64", extension=".png")


class _Stored(Process):
    """What most of them have in common. It cannot be called without arguments, so that it is none itself."""

    def __init__(self, identifier, inputs, outputs, **more):
        super().__init__(
            self._handler,
            identifier=identifier,
            title=more.pop("title", identifier.title()),
            inputs=inputs,
            outputs=outputs,
            store_supported=more.pop("store_supported", True),
            status_supported=more.pop("status_supported", True),
            **more,
        )

    def _handler(self, request, response):
        raise NotImplementedError


class Literals(_Stored):
    """Every literal type, there and back."""

    def __init__(self):
        super().__init__(
            "literals",
            [LiteralInput(name, name, data_type=name, min_occurs=0) for name in LITERALS],
            [
                *(LiteralOutput(name, name, data_type=name) for name in LITERALS),
                LiteralOutput("kinds", "Kinds", data_type="string"),
            ],
        )

    def _handler(self, request, response):
        kinds = {}
        for name, (item,) in request.inputs.items():
            kinds[name] = type(item.data).__name__
            response.outputs[name].data = item.data.geturl() if name == "anyURI" else item.data
        response.outputs["kinds"].data = json.dumps(kinds)
        return response


class Choices(_Stored):
    """Allowed values in every way that PyWPS has of saying them."""

    def __init__(self):
        super().__init__(
            "choices",
            [
                LiteralInput("word", "Word", data_type="string", allowed_values=["red", "green"]),
                LiteralInput("number", "Number", data_type="integer", allowed_values=[1, 2, (10, 20), (100, 5, 120)]),
                LiteralInput(
                    "share",
                    "Share",
                    data_type="float",
                    allowed_values=AllowedValue(minval=0.25, maxval=1.0, range_closure="closed-open"),
                ),
                LiteralInput("any", "Any", data_type="string", allowed_values=AnyValue, min_occurs=0),
                LiteralInput(
                    "listed",
                    "Listed elsewhere",
                    data_type="string",
                    allowed_values=ValuesReference(reference="https://example.org/words"),
                    min_occurs=0,
                ),
                LiteralInput(
                    "unchecked", "Unchecked", data_type="integer", allowed_values=[1, 2], mode=MODE.NONE, min_occurs=0
                ),
            ],
            [LiteralOutput("said", "Said", data_type="string")],
        )

    def _handler(self, request, response):
        response.outputs["said"].data = " ".join(f"{name}={item.data}" for name, (item,) in request.inputs.items())
        return response


class Units(_Stored):
    """Units of measure."""

    def __init__(self):
        super().__init__(
            "units",
            [LiteralInput("length", "Length", data_type="float", uoms=["metre", "feet"])],
            [
                LiteralOutput("length", "Length", data_type="float", uoms=["metre"]),
                LiteralOutput("unit", "Unit", data_type="string"),
            ],
        )

    def _handler(self, request, response):
        (item,) = request.inputs["length"]
        unit = getattr(item.uom, "uom", item.uom)
        response.outputs["length"].data = item.data * (0.3048 if unit == "feet" else 1)
        response.outputs["unit"].data = unit
        return response


class Defaults(_Stored):
    """Inputs that may be left out, and what then comes."""

    def __init__(self):
        super().__init__(
            "defaults",
            [
                LiteralInput("number", "Number", data_type="integer", default=5, min_occurs=0),
                LiteralInput("flag", "Flag", data_type="boolean", default=True),
                LiteralInput("zero", "Zero", data_type="float", default=0.0, min_occurs=0),
                LiteralInput("none", "None", data_type="string", min_occurs=0),
                ComplexInput("text", "Text", [TEXT], default="default text", min_occurs=0),
            ],
            [LiteralOutput("said", "Said", data_type="string")],
        )

    def _handler(self, request, response):
        said = {name: items[0].data for name, items in request.inputs.items()}
        response.outputs["said"].data = json.dumps(said, sort_keys=True)
        return response


class Repeated(_Stored):
    """Inputs that may be given several times."""

    def __init__(self):
        super().__init__(
            "repeated",
            [
                LiteralInput("number", "Number", data_type="integer", min_occurs=2, max_occurs=4),
                ComplexInput("text", "Text", [TEXT], min_occurs=0, max_occurs=3),
            ],
            [LiteralOutput("sum", "Sum", data_type="integer"), LiteralOutput("texts", "Texts", data_type="string")],
        )

    def _handler(self, request, response):
        response.outputs["sum"].data = sum(item.data for item in request.inputs["number"])
        response.outputs["texts"].data = "|".join(item.data for item in request.inputs.get("text", ()))
        return response


class Documents(_Stored):
    """Complex data in several formats, inline: text, XML, JSON and bytes."""

    def __init__(self):
        super().__init__(
            "documents",
            [
                ComplexInput("text", "Text", [TEXT, FORMATS.CSV], min_occurs=0),
                ComplexInput("xml", "XML", [FORMATS.XML, FORMATS.GML], min_occurs=0),
                ComplexInput("json", "JSON", [FORMATS.JSON, FORMATS.GEOJSON], min_occurs=0),
                ComplexInput("bytes", "Bytes", [BINARY], min_occurs=0),
            ],
            [
                ComplexOutput("text", "Text", [TEXT, FORMATS.CSV]),
                ComplexOutput("xml", "XML", [FORMATS.XML]),
                ComplexOutput("json", "JSON", [FORMATS.JSON]),
                ComplexOutput("bytes", "Bytes", [BINARY]),
                LiteralOutput("said", "Said", data_type="string"),
            ],
        )

    def _handler(self, request, response):
        said = {}
        for name, (item,) in request.inputs.items():
            kept = Path(item.file)
            said[name] = [
                item.prop,
                type(item.data).__name__,
                item.data_format.mime_type,
                kept.suffix,
                str(kept.parent) == self.workdir,
                item.size == kept.stat().st_size,
            ]
            response.outputs[name].data = json.loads(item.data) if name == "json" else item.data
        response.outputs["said"].data = json.dumps(said, sort_keys=True)
        return response


class Boxes(_Stored):
    """Bounding boxes in one of several systems."""

    def __init__(self):
        super().__init__(
            "boxes",
            [BoundingBoxInput("box", "Box", crss=["epsg:4326", "epsg:3857"])],
            [
                BoundingBoxOutput("box", "Box", crss=["epsg:4326", "epsg:3857"]),
                LiteralOutput("said", "Said", data_type="string"),
            ],
        )

    def _handler(self, request, response):
        (item,) = request.inputs["box"]
        response.outputs["box"].data = [item.data[0], item.data[1], item.data[2] + 1, item.data[3] + 1]
        response.outputs["box"].crs = item.crs
        response.outputs["said"].data = f"{item.ll} {item.ur} {item.crs} {item.dimensions}"
        return response


class Annotated(_Stored):
    """Words for people, in three languages."""

    def __init__(self):
        super().__init__(
            "annotated",
            [
                LiteralInput(
                    "name",
                    "Name",
                    data_type="string",
                    abstract="Whom to greet.",
                    keywords=["person"],
                    metadata=[Metadata("Names", "https://example.org/names", role="guide")],
                    translations={"fr-CA": {"title": "Nom", "abstract": "Qui saluer."}},
                )
            ],
            [
                LiteralOutput(
                    "greeting",
                    "Greeting",
                    data_type="string",
                    abstract="What to say.",
                    translations={"fr-CA": {"title": "Salutation"}},
                )
            ],
            title="Annotated",
            abstract="Everything that can be said & more.",
            keywords=["words", "people"],
            metadata=[Metadata("Home", "https://example.org/"), Metadata("Only a title")],
            version="1.2.3",
            translations={"fr-CA": {"title": "Annoté", "abstract": "Tout ce qui se dit."}},
        )

    def _handler(self, request, response):
        response.outputs["greeting"].data = f"{request.language}: {request.inputs['name'][0].data}"
        return response


class Files(_Stored):
    """Outputs as files: as a client asks for them, and by reference unless it asks otherwise."""

    def __init__(self):
        super().__init__(
            "files",
            [LiteralInput("lines", "Lines", data_type="positiveInteger", default=3, min_occurs=0)],
            [
                ComplexOutput("text", "Text", [TEXT]),
                ComplexOutput("table", "Table", [FORMATS.CSV, FORMATS.JSON]),
                ComplexOutput("kept", "Kept", [FORMATS.JSON], as_reference=True),
                ComplexOutput("picture", "Picture", [BINARY]),
            ],
        )

    def _handler(self, request, response):
        numbers = range(request.inputs["lines"][0].data)
        text = Path(self.workdir, "lines.txt")
        text.write_text("".join(f"line {number}\n" for number in numbers))
        response.outputs["text"].file = str(text)
        if response.outputs["table"].data_format.mime_type == FORMATS.JSON.mime_type:
            table = Path(self.workdir, "table.json")
            table.write_text(json.dumps(list(numbers)))
        else:
            table = Path(self.workdir, "table.csv")
            table.write_text(",".join(map(str, numbers)) + "\n")
        response.outputs["table"].file = str(table)
        # Relative to the current directory: right under a scheduler alone, so it is made absolute here.
        kept = Path(self.workdir, "kept.json")
        kept.write_text('{"kept": true}')
        response.outputs["kept"].file = str(kept)
        picture = Path(self.workdir, "picture.png")
        picture.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
        response.outputs["picture"].file = str(picture)
        return response


class Streams(_Stored):
    """An input read, and an output written, as a stream."""

    def __init__(self):
        super().__init__(
            "streams", [ComplexInput("text", "Text", [TEXT])], [ComplexOutput("upper", "Upper case", [TEXT])]
        )

    def _handler(self, request, response):
        content = request.inputs["text"][0].stream.read()
        upper = Path(self.workdir, "upper.txt")
        upper.write_text((content.decode() if isinstance(content, bytes) else content).upper())
        response.outputs["upper"].stream = upper.open()
        return response


class Remote(_Stored):
    """An input by reference, whatever it is asked for; outputs that lie elsewhere."""

    def __init__(self):
        super().__init__(
            "remote",
            [ComplexInput("text", "Text", [TEXT], max_occurs=2)],
            [
                LiteralOutput("said", "Said", data_type="string"),
                ComplexOutput("copy", "Copy", [TEXT]),
                ComplexOutput("elsewhere", "Elsewhere", [TEXT], as_reference=True),
                ComplexOutput("embedded", "Embedded", [TEXT]),
            ],
        )

    def _handler(self, request, response):
        said = []
        for item in request.inputs["text"]:
            kept = Path(item.file)
            # A second one of the same name gets another: how it is told apart is left open.
            name = kept.stem.partition("_")[0] + kept.suffix
            url = item.url if item.prop == "url" else Path(item.url).name
            said.append([item.prop, url, name, str(kept.parent) == self.workdir, item.size, item.data])
        response.outputs["said"].data = json.dumps(said)
        (first, *_) = request.inputs["text"]
        response.outputs["copy"].file = first.file
        response.outputs["elsewhere"].url = "https://example.org/elsewhere.txt"
        if first.prop == "url":
            response.outputs["embedded"].url = first.url
        else:
            response.outputs["embedded"].file = first.file
        return response


class MetaLinks(_Stored):
    """Many files behind one document, in both versions of metalink."""

    def __init__(self):
        super().__init__(
            "metalinks",
            [LiteralInput("count", "Count", data_type="positiveInteger", default=2, min_occurs=0)],
            [
                ComplexOutput("three", "Version 3", [FORMATS.METALINK], as_reference=True),
                ComplexOutput("four", "Version 4", [FORMATS.META4], as_reference=True),
            ],
        )

    def _handler(self, request, response):
        for name, kind in (("three", MetaLink), ("four", MetaLink4)):
            link = kind("files", "Some files", workdir=self.workdir)
            for number in range(request.inputs["count"][0].data):
                entry = MetaFile(f"file {number}", "A file", fmt=TEXT)
                path = Path(self.workdir, f"{name}_{number}.txt")
                path.write_text(f"{name} {number}")
                entry.file = str(path)
                link.append(entry)
            response.outputs[name].data = link.xml
        return response


class Objects(_Stored):
    """Outputs of whatever kind Python has, where a format says text."""

    def __init__(self):
        super().__init__(
            "objects",
            [ComplexInput("text", "Text", [TEXT], min_occurs=0)],
            [
                ComplexOutput("number", "Number", [TEXT]),
                ComplexOutput("list", "List", [TEXT]),
                ComplexOutput("day", "Day", [TEXT]),
                ComplexOutput("path", "Path", [TEXT]),
                ComplexOutput("links", "The client's own file", [FORMATS.META4], as_reference=True),
            ],
        )

    def _handler(self, request, response):
        response.outputs["number"].data = 42
        response.outputs["list"].data = ["a", "b"]
        response.outputs["day"].data = date(2020, 2, 29)
        response.outputs["path"].data = Path("/a/b")
        link = MetaLink4("files", "Some files", workdir=self.workdir)
        for item in request.inputs.get("text", ()):
            entry = MetaFile("its file", "A file", fmt=TEXT)
            entry.file = item.file
            link.append(entry)
        response.outputs["links"].data = link.xml
        return response


class Progress(_Stored):
    """Tells how far it is."""

    def __init__(self):
        super().__init__(
            "progress",
            [LiteralInput("steps", "Steps", data_type="integer", default=4, min_occurs=0)],
            [LiteralOutput("done", "Done", data_type="integer")],
        )

    def _handler(self, request, response):
        steps = request.inputs["steps"][0].data
        for step in range(steps):
            response.update_status(f"step {step} of {steps}", 100 * step // steps)
        response.update_status("no percentage")
        response.outputs["done"].data = steps
        return response


class Fails(_Stored):
    """Goes wrong in whatever way it is told to."""

    def __init__(self):
        super().__init__(
            "fails",
            [LiteralInput("how", "How", data_type="string", allowed_values=["told", "silly", "blamed", "status"])],
            [LiteralOutput("never", "Never", data_type="string")],
        )

    def _handler(self, request, response):
        how = request.inputs["how"][0].data
        if how == "told":
            raise ProcessError("The moon is in the wrong phase: please wait.")
        if how == "blamed":
            raise InvalidParameterValue("No such moon", "how")
        if how == "silly":
            return {}["silly"]
        raise ValueError("worse")


class Validated(_Stored):
    """PyWPS's own validator in its strict mode, and one of the author's own."""

    def __init__(self):
        own = Format("text/plain", extension=".txt", validate=begins_with_magic)
        super().__init__(
            "validated",
            [
                ComplexInput("json", "JSON", [FORMATS.JSON], mode=MODE.STRICT, min_occurs=0),
                ComplexInput("magic", "Magic", [own], mode=MODE.SIMPLE, min_occurs=0),
                ComplexInput("unchecked", "Unchecked", [FORMATS.JSON], mode=MODE.NONE, min_occurs=0),
            ],
            [LiteralOutput("said", "Said", data_type="string")],
        )

    def _handler(self, request, response):
        response.outputs["said"].data = ",".join(sorted(request.inputs))
        return response


def begins_with_magic(item, mode):
    """A validator that an author wrote."""
    return mode == MODE.NONE or Path(item.file).read_text().startswith("magic")


class Surroundings(_Stored):
    """What a handler sees of its run."""

    def __init__(self):
        super().__init__(
            "surroundings",
            [],
            [LiteralOutput("said", "Said", data_type="string"), LiteralOutput("uuid", "UUID", data_type="string")],
        )

    def _handler(self, request, response):
        said = {
            "identifier": request.identifier,
            "http_request": getattr(request.http_request, "method", None),
            "workdir": Path(self.workdir).is_absolute() and not any(Path(self.workdir).iterdir()),
            "own setting": configuration.get_config_value("centre", "motto"),
            "expanded": configuration.get_config_value("centre", "place"),
            "limit": configuration.get_config_value("server", "maxsingleinputsize"),
            "status_supported": self.status_supported,
            "outputs": sorted(response.outputs),
        }
        response.outputs["said"].data = json.dumps(said, sort_keys=True)
        response.outputs["uuid"].data = str(self.uuid)
        return response


class Silent(_Stored):
    """Sets one of its outputs and leaves the others alone."""

    def __init__(self):
        super().__init__(
            "silent",
            [],
            [
                LiteralOutput("set", "Set", data_type="string"),
                LiteralOutput("unset", "Unset", data_type="string"),
                ComplexOutput("nothing", "Nothing", [TEXT]),
                BoundingBoxOutput("nowhere", "Nowhere", crss=["epsg:4326"]),
            ],
        )

    def _handler(self, request, response):
        response.outputs["set"].data = "here"
        return response


class Calls(Process):
    """Can only be called synchronously."""

    def __init__(self):
        super().__init__(
            self.answer,
            identifier="calls",
            title="Calls",
            inputs=[LiteralInput("word", "Word", data_type="string")],
            outputs=[LiteralOutput("answer", "Answer", data_type="string")],
            version="0.1",
        )

    def answer(self, request, response):
        """A handler need not be called _handler, and what it returns is ignored."""
        response.outputs["answer"].data = request.inputs["word"][0].data[::-1]
        return "ignored"
