"""A part of Werkzeug 3.1.9: see README.md in the folder above."""
