"""Tool servers: what there are, where they come from, and the making and removing of their files.

Owns the tables servers and server_tools, the folder `dynamic_servers` and the setting `mcp_servers`. What a server is
stands in its files, which may be put there by hand; whether it is enabled stands in the database. Nothing is started
here, and nothing outside of the folders can be reached whatever name is given.
"""

from claude_runner.servers._code import Findings, examine, merged
from claude_runner.servers._collection import SAMPLES, Servers
from claude_runner.servers._external import PLACEHOLDER, ExternalDraft
from claude_runner.servers._names import RUNNER, check_name
from claude_runner.servers._records import Kind, Server, ToolInfo
from claude_runner.servers._variables import Variable, is_credential
from claude_runner.servers._versions import Version

__all__ = [
    "PLACEHOLDER",
    "RUNNER",
    "SAMPLES",
    "ExternalDraft",
    "Findings",
    "Kind",
    "Server",
    "Servers",
    "ToolInfo",
    "Variable",
    "Version",
    "check_name",
    "examine",
    "is_credential",
    "merged",
]
