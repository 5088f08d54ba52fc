"""What stops an ingest, or leaves a series out: one message that names the file and says what to do."""


class IngestError(Exception):
    """The whole ingest cannot go on; what was finished is kept.

    Parameters
    ----------
    message : str
        Names the file or option and the remedy. It goes to the researcher's own terminal.
    """


class Excluded(Exception):
    """A patient is left out.

    Parameters
    ----------
    code : str
        One word per kind of reason, for counting.
    text : str
        Names the file and the remedy.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
