"""Runs: from settings to plan, from plan to pictures, the store, sessions and sweeps."""
