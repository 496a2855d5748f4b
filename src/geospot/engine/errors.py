"""What goes wrong between a run and its engine. No torch and no SDK here."""


class EngineError(RuntimeError):
    """The engine cannot do what is asked; the message says why and what to do."""


class EngineGone(EngineError):
    """The server does not answer any more: no other request would fare better."""
