"""The model as an artefact: its networks, weights, bundles, and what makes integers of them."""
