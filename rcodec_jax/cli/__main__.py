"""`python -m rcodec_jax.cli`: the command without its installed script."""

from __future__ import annotations

import sys

from rcodec_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
