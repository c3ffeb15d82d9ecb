"""What is read of the boards: HTML, Markdown, and the index of all."""
