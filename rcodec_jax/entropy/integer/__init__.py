"""The integer networks that steer the entropy decoder, and their files."""
