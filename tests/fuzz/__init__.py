"""Seeds for fuzzing, what is to hold for every input, and a test that replays them."""
