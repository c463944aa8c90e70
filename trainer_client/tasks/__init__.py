"""What is trained: text and its networks."""
