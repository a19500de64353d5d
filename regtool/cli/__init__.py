"""The command line: parse, call the engine, print. Nothing heavy is imported before a command runs."""
