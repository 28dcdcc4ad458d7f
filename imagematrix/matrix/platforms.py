"""For which platform are the images?"""

# Whatever the engine itself is: https://docs.docker.com/build/building/multi-platform/
PLATFORM = "linux/amd64"
