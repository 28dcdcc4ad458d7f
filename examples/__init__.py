"""What makes the examples in base/ and frameworks/: `nox -s examples` runs it in their images.

Nothing of it goes to those who copy an example. All of it keeps to Python 3.7, the oldest in an
image.
"""
