"""A local coding assistant: language server, workspace index and in-process MoE engine."""

__version__ = "0.1.0"
