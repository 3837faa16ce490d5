"""What is measured; each module is one kind of question."""
