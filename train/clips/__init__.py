"""Training of a task on clips: recipes, folds, measuring, the bundle."""
