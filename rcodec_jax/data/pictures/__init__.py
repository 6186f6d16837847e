"""Single pictures and masks: formats, colour, depth, damage."""
