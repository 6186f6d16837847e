"""The command `rcodec`: one file per subcommand, heavy imports only where they are needed."""
