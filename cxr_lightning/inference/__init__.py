"""From a bundle and images to decisions: what `predict`, `export` and the MLflow model share.

Nothing is imported here, so that a mistake on the command line is answered before torch is loaded.
"""
