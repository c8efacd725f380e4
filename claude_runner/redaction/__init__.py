"""Redaction: what must not be read stands as `[credential NAME]`, in texts, JSON, streams and the log.

A secret is found as it is and in the spellings in which programs pass texts on: escaped in JSON, quoted in a URL or
by Python, in base64, without the white space around it, and of several lines each long one. One that is shorter than
four characters is left alone: it would tear every text apart.
"""

from claude_runner.redaction._redactor import RedactedStream, Redactor

__all__ = ["RedactedStream", "Redactor"]
