"""What callers are told of jobs, runs, webhooks and servers: the same words for Claude as for a script.

Each module has dataclasses that JSON can hold and how they are made of the App's objects. The MCP tools and the JSON
API answer them, so a field has one name and one meaning.
"""
