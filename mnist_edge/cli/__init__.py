"""The command line: parse, one library call, print. Nothing imports it."""
