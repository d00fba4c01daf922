"""python -m pkg [options]"""

from __future__ import annotations

from .train import main

if __name__ == "__main__":
    main()
