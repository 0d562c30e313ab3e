"""What the contract tests share: a server in a process of its own, a client, an application."""
