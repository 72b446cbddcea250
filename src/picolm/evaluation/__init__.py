"""What a model knows: tasks, the scorer under them, and the rows that they give."""
