"""A class in a module of the same name, as many projects have them: their package then hides the module."""

from pywps import LiteralInput, LiteralOutput, Process


class Shadowed(Process):
    """Doubles a number."""

    def __init__(self):
        super().__init__(
            self._handler,
            identifier="shadowed",
            title="Shadowed",
            inputs=[LiteralInput("number", "Number", data_type="integer")],
            outputs=[LiteralOutput("double", "Double", data_type="integer")],
        )

    def _handler(self, request, response):
        response.outputs["double"].data = 2 * request.inputs["number"][0].data
        return response
