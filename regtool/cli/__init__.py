"""The command line: parse, call the engine, print; nothing heavy before a command runs."""
