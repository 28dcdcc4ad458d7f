"""``python -m inference_server`` starts the service."""

from .service import main

if __name__ == "__main__":
    main()
