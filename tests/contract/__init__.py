"""The contract: what clients and applications see, the same under every worker model."""
