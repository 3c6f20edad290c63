"""What a process is asked for and has: signals, memory, progress, and how a command ends."""
