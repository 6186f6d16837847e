"""What a run will take: operations, memory and hours, before it starts."""
