"""What is particular to the default recipe: its learners, its bundle and card."""
