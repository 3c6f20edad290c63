"""Networks that paint in one pass: their making and their use."""
