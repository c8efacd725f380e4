"""Measures what the program promises about its own cost: `make bench`, or `python -m bench [NAME …]`.

One module a figure. Each compares with something measured in the same run, where a figure is a ratio, so that the
verdict is the program's and not the machine's. What is measured is the real thing: the application over a real file,
server processes spoken to over pipes, the real Claude Code CLI. Only the model is scripted, and where the agent is no
part of the figure a stand-in takes its place.
"""
