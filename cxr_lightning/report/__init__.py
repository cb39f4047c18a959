"""From predictions to all that is said of a model: numbers, figures, a page."""
