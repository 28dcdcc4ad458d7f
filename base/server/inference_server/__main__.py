"""``python -m inference_server`` starts the service."""

from .front import main

if __name__ == "__main__":
    main()
