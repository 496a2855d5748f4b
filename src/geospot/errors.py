"""What goes wrong in ways that the user can put right: one family, whose messages say what is wrong and what to do.

A command shows them without a traceback. What is raised by mistake of ours is none of them.
"""


class GeospotError(RuntimeError):
    """Something that the user can put right; the message names it, the reason and the remedy."""


class DataError(GeospotError):
    """A source of pictures, or what was asked of one, cannot be used."""


class EngineError(GeospotError):
    """The engine cannot do what is asked of it."""


class EngineGone(EngineError):
    """The server no longer answers: no other request would fare better."""


class RunError(GeospotError):
    """A run folder, a checkpoint or a calibration cannot be used as asked."""


class ModelError(GeospotError):
    """A model, its tokenizer or its image processor cannot be loaded."""


class TableError(GeospotError):
    """A table of predictions or truths cannot be read, or two of them do not fit together."""
